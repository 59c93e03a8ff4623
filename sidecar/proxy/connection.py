"""One connection that was let in, between its requests.

Knows: the deadline of each head, and that a parser's words never reach a peer. It leans on three
inner names of aiohttp's connection class: `_messages` (heads parsed and not yet served),
`_handle_request`'s use of `handle_error`, and the marker that stands in `_messages` for what could
not be parsed.
Must not know: what a request means, upstreams, policies.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web_protocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage

from sidecar.errors import Refused
from sidecar.proxy.doorstep import farewell
from sidecar.proxy.exchange import Exchange

if TYPE_CHECKING:
    from sidecar.proxy.server import FrontDoor

_log = logging.getLogger("aegis.door")


_TOO_SLOW = farewell("request_timeout", "408 Request Timeout")


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
    """One connection: a deadline for each head, quiet errors."""

    __slots__ = ("_door", "_head_timer", "exchange", "source_ip")

    def __init__(
        self,
        door: FrontDoor,
        source_ip: str,
        *,
        loop: asyncio.AbstractEventLoop,
        **options: Any,
    ) -> None:
        super().__init__(door, loop=loop, **options)
        self._door = door
        self._head_timer: asyncio.TimerHandle | None = None
        self.exchange: Exchange | None = None
        self.source_ip = source_ip

    @property
    def is_draining(self) -> bool:
        """Whether this reply is to be the last on its connection."""
        return self._door.is_draining

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives the place back; the base class cancels the handler."""
        self._disarm()
        self._door.leave(self.source_ip)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; starts the head's deadline where a head has begun and not ended."""
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
