"""Looks a host's name up on a thread of its own.

Knows: that a name server may not answer for half a minute, or ever. The event loop looks names up
on four threads that everybody shares, whoever connects to an address too: four look-ups that hang,
of one name that is tried again and again, would hold up all the others. Who asks gives up when it
takes too long; the thread ends by itself.
Must not know: which addresses may be connected to, who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from sidecar.addresses import is_literal

_NUMERIC: Final = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
#: No addresses of a family that this machine has none of; some systems take no other flags. What
#: it has on its loopback does not count, so that for these it must not be asked.
_FLAGS: Final = socket.AI_ADDRCONFIG & getattr(socket, "AI_MASK", -1)

_Found = list[ResolveResult]
_Answer = tuple[int, int, int, str, tuple[Any, ...]]


class OwnThreadResolver(AbstractResolver):
    """As aiohttp's resolver on threads, and nobody waits for another's name. Whoever asks for a
    name that is being looked up waits with those who do: one that hangs has one thread."""

    def __init__(self) -> None:
        self._looking: dict[tuple[object, ...], asyncio.Future[_Found]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`; raises OSError, also where no thread is to be had."""
        if is_literal(host):  # nobody is asked
            return _addresses(host, port, family)
        loop = asyncio.get_running_loop()
        asked = (loop, host, port, family)
        found = self._looking.get(asked)
        if found is None:
            found = _begun(loop, host, port, family)
            self._looking[asked] = found
            found.add_done_callback(lambda _: self._looking.pop(asked))
        return await asyncio.shield(found)

    async def close(self) -> None:
        """Whoever still looks is not waited for."""


def _begun(
    loop: asyncio.AbstractEventLoop, host: str, port: int, family: socket.AddressFamily
) -> asyncio.Future[_Found]:
    found: asyncio.Future[_Found] = loop.create_future()

    def look() -> None:
        answer: _Found | Exception
        try:
            answer = _addresses(host, port, family)
        except Exception as error:
            answer = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, found, answer)

    try:
        threading.Thread(target=look, name="look up a name", daemon=True).start()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return found


def _tell(found: asyncio.Future[_Found], answer: _Found | Exception) -> None:
    if found.done():
        return
    if isinstance(answer, Exception):
        found.set_exception(answer)
    else:
        found.set_result(answer)


def _addresses(host: str, port: int, family: socket.AddressFamily) -> _Found:
    found = _answered(host, port, family)
    return [
        ResolveResult(
            hostname=host,
            host=_host_of(found_family, place),
            port=int(place[1]),
            family=found_family,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for found_family, _, proto, _, place in found
    ]


def _answered(host: str, port: int, family: int) -> Sequence[_Answer]:
    def asked(flags: int) -> Sequence[_Answer]:
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)

    if is_literal(host):
        return asked(0)
    if not _is_this_machine(host):
        return asked(_FLAGS)
    found: Sequence[_Answer] = asked(0)
    first: Sequence[_Answer] = ()
    if len({one[0] for one in found}) > 1:  # a datagram goes to the first alone
        with contextlib.suppress(OSError):
            first = asked(_FLAGS)
    return [*first, *(one for one in found if one not in first)]


def _is_this_machine(host: str) -> bool:
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _host_of(family: int, place: tuple[object, ...]) -> str:
    """With the link that it is on, where that is part of it."""
    if family == socket.AF_INET6 and len(place) > 3 and place[3]:
        return socket.getnameinfo(place, _NUMERIC)[0]  # type: ignore[arg-type]
    return str(place[0])
