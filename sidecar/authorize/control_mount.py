"""What agents use of `/v1`, on the control listener: so that a client needs one base URL.

Knows: aiohttp's requests. An address is never trusted on that listener, so that whoever asks there
shows a credential; and what is not an agent's is left to the API of people.
Must not know: what is decided, what else the control listener serves.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from sidecar.authorize.asked import AskedHttp
from sidecar.authorize.door import RESERVED, AuthorizeDoor
from sidecar.config.model import Limits
from sidecar.control.continuing import invite
from sidecar.errors import Refused
from sidecar.model import Principal
from sidecar.proxy.held_bodies import HeldBody

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

#: As they were sent: an id with an escape in it is nobody's.
_PATH: Final = re.compile(rf"/{RESERVED}/([^/?#]+(?:/[^/?#]+)*)")
#: Headers that are read here, of which there must be one each.
_READ: Final = (
    "aegis-token", "authorization", "content-encoding", "content-type",
    "x-aegis-request-signature",
)  # fmt: skip
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Server": "aegis-sidecar"}


def agents_first(door: AuthorizeDoor, limits: Limits) -> Middleware:
    """Answers what agents ask; leaves everything else to who comes after."""

    @web.middleware
    async def serve(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        found = _PATH.fullmatch(request.rel_url.raw_path)
        if found is None:
            return await handler(request)
        asked = _asked(request, found[1], limits, door.body())
        if not door.serves(asked):
            return await handler(request)
        status, headers, body = await door.answer(asked)
        return web.Response(status=status, body=body, headers={**_HEADERS, **dict(headers)})

    return serve


def _asked(request: web.Request, path: str, limits: Limits, held: HeldBody) -> AskedHttp:
    headers = {name: ",".join(request.headers.getall(name, ())) for name in _READ}
    doubled = [name for name in _READ if len(request.headers.getall(name, ())) > 1]

    async def read_body(principal: Principal) -> bytes:
        held.tenant = principal.tenant
        if doubled:
            raise Refused("ambiguous_header", f"{doubled[0]} is there twice")
        if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise Refused("unsupported_encoding")
        try:
            async with asyncio.timeout(limits.body_wait_s):
                return await _read(request, limits.request_bytes, held)
        except TimeoutError:
            raise Refused("request_timeout") from None

    return AskedHttp(
        request.method,
        tuple(path.split("/")),
        {name: value for name, value in headers.items() if name in request.headers},
        request.remote or "",
        read_body,
        held,
        is_control=True,
        query=request.rel_url.raw_query_string,
    )


async def _read(request: web.Request, bytes_max: int, held: HeldBody) -> bytes:
    pieces = bytearray()
    too_large = Refused("body_too_large", f"The body is longer than {bytes_max} bytes")
    if (request.content_length or 0) > bytes_max:
        raise too_large
    held.require_room(request.content_length or 0)
    await invite(request)
    async for piece in request.content.iter_any():
        size = len(pieces) + len(piece)
        if size > bytes_max:
            raise too_large
        held.becomes(size)
        pieces += piece
    return bytes(pieces)
