"""One connection at the front door, before and between its requests.

Knows: the cap that is checked before anything is read, the deadline of each head, and that a
parser's words never reach a peer. It leans on three inner names of aiohttp's connection class:
`_messages` (heads parsed and not yet served), `_handle_request`'s use of `handle_error`, and the
marker that stands in `_messages` for what could not be parsed.
Must not know: what a request means, upstreams, policies.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web_protocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage

from sidecar.errors import Refused
from sidecar.proxy.exchange import Exchange

if TYPE_CHECKING:
    from sidecar.proxy.server import FrontDoor

#: How long a connection that was turned away may take to read why.
_FAREWELL_S = 0.5

_log = logging.getLogger("aegis.door")


def _farewell(status_line: str) -> bytes:
    return (
        f"HTTP/1.1 {status_line}\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


_TOO_MANY = _farewell("503 Service Unavailable")
_TOO_SLOW = _farewell("408 Request Timeout")


class _ParserRefusal:
    """Stands for the response to what the parser could not read: aiohttp prepares it later."""

    keep_alive = False

    def __init__(self, door: FrontDoor, refused: Refused) -> None:
        self._door = door
        self._refused = refused

    async def prepare(self, exchange: Exchange) -> None:
        """Sends the refusal."""
        await self._door.refuse_head(exchange, self._refused)

    async def write_eof(self) -> None:
        """Nothing is left to write."""


class DoorConnection(web_protocol.RequestHandler):
    """One connection: caps before anything is read, a deadline for each head, quiet errors."""

    __slots__ = ("_door", "_head_timer", "_is_admitted", "exchange", "source_ip")

    def __init__(self, door: FrontDoor, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(door, loop=loop, **options)
        self._door = door
        self._is_admitted = False
        self._head_timer: asyncio.TimerHandle | None = None
        self.exchange: Exchange | None = None
        self.source_ip = ""

    @property
    def is_draining(self) -> bool:
        """Whether this reply is to be the last on its connection."""
        return self._door.is_draining

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admits the connection, or tells it why not and closes."""
        peer = transport.get_extra_info("peername")
        self.source_ip = peer[0] if isinstance(peer, tuple) and peer else ""
        self._is_admitted = self._door.admit(self.source_ip)
        if self._is_admitted:
            super().connection_made(transport)
        else:
            # A cast, not a check: uvloop's transports are no subclass of asyncio's.
            self._turn_away(cast(asyncio.Transport, transport))

    def _turn_away(self, transport: asyncio.Transport) -> None:
        may_stay = self._door.may_say_farewell()
        self._door.count_farewell(1)
        if not may_stay:
            transport.abort()
            return
        transport.write(_TOO_MANY)
        if transport.can_write_eof():
            transport.write_eof()
        # Closing at once would reset a client that is still sending, and lose it the answer.
        self._loop.call_later(_FAREWELL_S, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives the place back; the base class cancels the handler."""
        self._disarm()
        if not self._is_admitted:
            self._door.count_farewell(-1)
            return
        self._door.leave(self.source_ip)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; starts the head's deadline where a head has begun and not ended."""
        if not self._is_admitted:
            return
        super().data_received(data)
        if self._messages:
            if self._head_timer is not None:
                self._disarm()
            if self.exchange is not None:
                self._fail_body_if_broken()
        elif self.exchange is None and self._head_timer is None and data:
            self._head_timer = self._loop.call_later(self._door.header_wait_s, self._head_is_late)

    def _fail_body_if_broken(self) -> None:
        """A parser error behind a head means that head's body will never be whole."""
        if isinstance(self._messages[-1][0], RawRequestMessage) or self.exchange is None:
            return
        self.exchange.fail_body(web_protocol.RequestPayloadError("the body's framing is broken"))

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.exchange is not None or self._messages or self.transport is None:
            return
        self._door.turned_away_total["header_wait"] += 1
        self.transport.write(_TOO_SLOW)
        self.force_close()

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """What aiohttp asks for where the parser or the handler failed: a quiet refusal."""
        exchange: Exchange = request
        if isinstance(exc, HttpProcessingError):
            return _ParserRefusal(self._door, _refusal_of(exc))
        _log.error("the handler of a request failed", exc_info=exc)
        if exchange.has_begun:
            exchange.abort()
            raise ConnectionError("a reply had begun")
        return _ParserRefusal(self._door, Refused("internal_error"))


def _refusal_of(error: HttpProcessingError) -> Refused:
    if isinstance(error, LineTooLong) or str(error.message).startswith("Too many headers"):
        return Refused("headers_too_large")
    return Refused("malformed_request")
