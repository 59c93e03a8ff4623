"""`Expect: 100-continue` on the control listener: a body is asked for only when it is wanted.

Knows: that aiohttp would answer `100 Continue` before anybody has looked at the Host, the key or
the role of a request, also where there is no route; so the expectation is taken out of the head
before aiohttp sees it, and whoever reads a body invites it. A client that was told no keeps its
body, so nothing of its connection can be trusted to begin a request.
Must not know: who may send a body, how one is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_KNOWN: Final = "100-continue"
_NAME: Final = "Expect"
#: What the head of a request expected, and whether its body was asked for.
_EXPECTED: Final = web.RequestKey("aegis_expected", str)
_INVITED: Final = web.RequestKey("aegis_invited", bool)


def hold_back(server: web.Server) -> None:
    """From now on no request of the server is asked for its body but by `invite`."""
    make: Callable[..., Any] = server.request_factory

    def made(message: Any, *others: Any) -> Any:
        if message.chunked:
            # Of trailers behind it the parser makes a header of the connection's next request.
            message = message._replace(should_close=True)
        if _NAME not in message.headers:  # those of a head that could not be read are a mere {}
            return make(message, *others)
        headers = message.headers.copy()
        expected = headers.popall(_NAME)
        request = make(message._replace(headers=type(message.headers)(headers)), *others)
        request[_EXPECTED] = ", ".join(expected)
        return request

    server.request_factory = made


def is_unknown(request: web.Request) -> bool:
    """Whether it expects something else than to be asked for its body."""
    expected: str = request.get(_EXPECTED, _KNOWN)
    return expected.lower() != _KNOWN


async def invite(request: web.Request) -> None:
    """Asks for the body, if the client waits for that; to be called before it is read."""
    request[_INVITED] = True
    waits = _EXPECTED in request and request.version >= (1, 1)
    if waits and not request.content.total_bytes and request.transport is not None:
        request.transport.write(_CONTINUE)


async def end_if_uninvited(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: the answer to who was not asked is its connection's last."""
    if _EXPECTED in request and _INVITED not in request and request.can_read_body:
        response.headers["Connection"] = "close"
        response.force_close()
