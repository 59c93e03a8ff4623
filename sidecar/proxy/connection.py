"""One connection that was let in: its requests one after the other, and the time between them.

Knows: the deadline of each head, and that a parser's words never reach a peer. aiohttp's own loop
makes a task, a writer and a checked response for every request; `start` stands in for it and does
what is left of that for replies that were sent already. For this it leans on inner names of
aiohttp's connection class, in this one file; the tests of the door run against the pinned version.
Must not know: what a request means, upstreams, policies.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web_protocol
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR

from sidecar.errors import Refused
from sidecar.proxy.doorkeeper import farewell
from sidecar.proxy.exchange import ClientGone, Exchange
from sidecar.proxy.head_memory import HeadMemory
from sidecar.proxy.request_walk import RequestWalk

if TYPE_CHECKING:
    from sidecar.proxy.heartbeats import Heartbeats
    from sidecar.proxy.server import FrontDoor
    from sidecar.proxy.websocket_relay import Relay

_log = logging.getLogger("aegis.door")


#: What a chunked body may take beyond itself in sizes, extensions and line ends, and for each byte
#: of its own another eighth. A parser pays by the chunk: without this, a body within its limit that
#: comes in chunks of one byte takes a second of it, and an extension without end takes all it gets.
#: Whoever sends every word of a text as a chunk gets a hundred kilobytes through.
CHUNK_OVERHEAD_BYTES_MAX = 64 * 1024
_BODY_BYTES_PER_OVERHEAD_BYTE = 8
#: So much is parsed before it is weighed again: one read of the loop's may hold forty thousand
#: chunks.
_PARSED_AT_ONCE_BYTES = 16 * 1024

#: RFC 5482's; not all systems have it.
_PEER_WAIT = getattr(socket, "TCP_USER_TIMEOUT", None)

_TOO_SLOW = farewell("request_timeout", "408 Request Timeout")


class DoorConnection(web_protocol.RequestHandler):
    """One connection: a deadline for each head, quiet errors."""

    __slots__ = (
        "_arriving",
        "_chunked_bytes",
        "_coming",
        "_door",
        "_head_timer",
        "_heads",
        "_is_spent",
        "_relay",
        "_walk",
        "exchange",
        "source_ip",
        "was_made",
    )

    def __init__(
        self,
        door: FrontDoor,
        source_ip: str,
        *,
        loop: asyncio.AbstractEventLoop,
        **options: Any,
    ) -> None:
        super().__init__(door, loop=loop, **options)
        # The parser stops between two requests where many wait to be taken, and goes on when it is
        # asked to. One that is taken before its body has come counts there for ever (aiohttp
        # 3.14): it would stop before this queue is full, and nobody would ask.
        self._max_msg_queue_size //= 2
        self._msg_queue_resume_size //= 2
        self._door = door
        self._head_timer: asyncio.TimerHandle | None = None
        self.exchange: Exchange | None = None
        #: Whose body may still arrive: the exchange, also while it is read only to be forgotten.
        self._arriving: Exchange | None = None
        #: Of the last request that was parsed: its body if it comes in chunks, and what came of it
        #: without the read that began it.
        self._coming: StreamReader | None = None
        self._chunked_bytes = 0
        #: Whether a body was given up, so that nothing behind it can be told apart.
        self._is_spent = False
        self._relay: Relay | None = None
        self._heads = HeadMemory()
        self._walk = RequestWalk()
        self.source_ip = source_ip
        #: Whether it ever carried anything; over TLS that takes a handshake.
        self.was_made = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.was_made = True
        super().connection_made(transport)

    @property
    def is_draining(self) -> bool:
        """Whether this reply is to be the last on its connection."""
        return self._door.is_draining

    @property
    def heartbeats(self) -> Heartbeats:
        """What looks after streams that are silent."""
        return self._door.heartbeats

    def notice_vanishing(self) -> None:
        """From now on the connection is lost once what was sent has found nobody, or nobody who
        takes it, for as long as a write may wait: by itself Linux tries for a quarter of an hour.
        """
        own = None if self.transport is None else self.transport.get_extra_info("socket")
        if _PEER_WAIT is not None and own is not None and own.family != socket.AF_UNIX:
            own.setsockopt(socket.IPPROTO_TCP, _PEER_WAIT, int(self._door.write_wait_s * 1000))

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio asks for this
        """The peer says no more: in the middle of a body that is refused, else it is the end.

        A peer that closes for good cannot be told from one that only stops sending, and a call
        nobody waits for must not go on: so nothing else is answered after this.
        """
        exchange = self.exchange
        if exchange is None or exchange.has_whole_body:
            return None
        exchange.keep_alive = False
        exchange.fail_body(web_protocol.RequestPayloadError("the body ended early"))
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives the place back; the base class cancels the handler.

        A relay knows better how it ended than that its handler was cancelled.
        """
        relay, self._relay = self._relay, None
        if relay is not None:
            self._task_handler = None
            relay.agent_lost()
        if self._head_timer is not None:
            self._door.turned_away_total["head_incomplete"] += 1
        self._disarm()
        self._door.leave(self.source_ip)
        # Each leads to a reader, and that back to here: what is left of a call that was hung up on
        # would stay until a full collection finds the ring.
        self._arriving = self._coming = None
        self._walk.let_go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; starts the head's deadline where a head has begun and not ended."""
        if self._relay is not None:
            self._relay.from_agent(data)
        elif len(data) <= _PARSED_AT_ONCE_BYTES:
            self._parse(data)
        else:
            for at in range(0, len(data), _PARSED_AT_ONCE_BYTES):
                self._parse(data[at : at + _PARSED_AT_ONCE_BYTES])

    def _parse(self, data: bytes) -> None:
        if self._is_spent:
            return
        before = self._request_count
        super().data_received(data)
        begun = self._request_count - before
        if begun:
            message, payload = self._messages[-1]
            is_chunked = isinstance(message, RawRequestMessage) and message.chunked
            self._coming, self._chunked_bytes = payload if is_chunked else None, 0
            if begun > 1 or is_chunked or not self._walk.is_simple(data, payload):
                self._follow(data, begun)
        elif not self._walk.is_simple(data, None):
            self._follow(data, 0)
        if not begun and self._coming is not None:
            self._weigh_chunks(self._coming, len(data))
        if self._messages:
            if self._head_timer is not None:
                self._disarm()
            if self.exchange is not None:
                self._fail_body_if_broken()
        elif self._arriving is None and self._head_timer is None and data:
            self._head_timer = self._loop.call_later(self._door.header_wait_s, self._head_is_late)

    def _follow(self, data: bytes, begun: int) -> None:
        """Looks at what stands between requests; what stands behind an odd line end is no request,
        and nothing that comes after it is read."""
        if self._close or self._force_close:
            return  # what comes is taken for no request
        fresh = list(self._messages)[len(self._messages) - begun :]
        well = self._walk.follows(data, fresh, is_last=self._upgraded)
        if well is None:
            return
        for _ in range(begun - well):
            self._messages.pop()
        self._upgraded, self._message_tail = False, b""  # that was none of the requests
        self._is_spent = True
        if self._walk.has_trailers:
            self._end_behind_trailers()
            return
        odd = BadHttpMessage("a line before a request ends with CR or LF alone")
        self._messages.append((web_protocol._ErrInfo(400, odd, odd.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_behind_trailers(self) -> None:
        """The request that has them is the last, and its reply says so."""
        if self._messages:
            last: Any = self._messages[-1]
            self._messages[-1] = (last[0]._replace(should_close=True), last[1])
        elif self.exchange is not None:
            self.exchange.keep_alive = False

    def _fail_body_if_broken(self) -> None:
        """A parser error behind a head means that head's body will never be whole."""
        if isinstance(self._messages[-1][0], RawRequestMessage) or self.exchange is None:
            return
        self.exchange.fail_body(web_protocol.RequestPayloadError("the body's framing is broken"))

    def _weigh_chunks(self, payload: StreamReader, arrived_bytes: int) -> None:
        """Ends a body that is mostly framing; nothing that comes after it is read."""
        self._chunked_bytes += arrived_bytes
        body_bytes = payload.total_bytes
        allowed = CHUNK_OVERHEAD_BYTES_MAX + body_bytes // _BODY_BYTES_PER_OVERHEAD_BYTE
        if payload.is_eof():
            self._coming = None
        elif self._chunked_bytes - body_bytes > allowed:
            self._coming = None
            payload.set_exception(Refused("body_too_large", "The body is sent in chunks too small"))
            self._is_spent = True
            self.pause_reading()

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

    # -- a WebSocket -----------------------------------------------------------------------

    @property
    def has_early_bytes(self) -> bool:
        """Whether the peer sent something behind its handshake, before it was answered."""
        return bool(self._message_tail)

    async def carry(self, relay: Relay) -> None:
        """Leaves the connection to `relay` until that has ended."""
        if self.transport is None:
            raise ClientGone
        self._relay = relay
        relay.begin(self.transport)
        await relay.ended

    def pause_writing(self) -> None:
        """The peer does not take what it is sent."""
        super().pause_writing()
        if self._relay is not None:
            self._relay.agent_pauses()

    def resume_writing(self) -> None:
        """The peer takes what it is sent again."""
        super().resume_writing()
        if self._relay is not None:
            self._relay.agent_resumes()

    def close(self) -> None:
        """No further request; where the sidecar is stopping, an open WebSocket is told."""
        super().close()
        if self._relay is not None:
            self._relay.go_away()

    # -- requests --------------------------------------------------------------------------

    async def start(self) -> None:
        """Serves what was parsed, in order, until the connection is to end."""
        try:
            while not self._force_close:
                if not self._messages:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                message, payload = self._messages.popleft()
                # So that pipelined requests may follow.
                if self._parser is not None:
                    self._parser.message_consumed()
                if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                    self._resume_reading_if_drained()
                if not await self._serve(message, payload) or self._close or self._force_close:
                    break
                self._keepalive = True
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if self._keepalive_handle is None:
                    self._keepalive_handle = self._loop.call_at(
                        self._next_keepalive_close_time, self._process_keepalive
                    )
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception:
            # A fault of ours outside of any request: nobody may wait for an answer to it.
            _log.exception("a connection could not be served")
            self.force_close()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it at the end of every body; mostly nothing was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def _serve(self, message: Any, payload: StreamReader) -> bool:
        """One request and its reply; whether the connection may carry another.

        `message` is a RawRequestMessage, or aiohttp's marker for what could not be parsed.
        """
        door = self._door
        door.requests_count += 1
        is_parsed = isinstance(message, RawRequestMessage)
        exchange = Exchange(message if is_parsed else ERROR, payload, self, door.write_wait_s)
        self.exchange = self._current_request = exchange  # type: ignore[assignment]
        self._arriving = exchange
        self._request_in_progress = True
        try:
            if is_parsed:
                refused = door.read_head(exchange, self._heads)
            else:
                refused = _refusal_of(message.exc)
            if refused is None and exchange.head.is_handshake and self._message_tail:
                refused = Refused("bad_handshake", "Bytes came before the handshake was answered")
            if refused is None:
                await door.handler(exchange)
            else:
                await door.refuse_head(exchange, refused)
        except (ClientGone, ConnectionError):
            exchange.abort()
            return False
        except Exception:
            _log.exception("the handler of a request failed")
            await self._say_internal_error(exchange)
        finally:
            self.exchange = self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if not exchange.has_begun:
            exchange.abort()
        if not payload.is_eof():
            await self._linger(payload)
        self._arriving = None
        return exchange.keep_alive and not self._upgraded

    async def _say_internal_error(self, exchange: Exchange) -> None:
        exchange.keep_alive = False
        if exchange.has_begun:
            exchange.abort()
        else:
            await self._door.refuse_head(exchange, Refused("internal_error"))

    async def _linger(self, payload: StreamReader) -> None:
        """Reads and forgets what is still sent, so that the peer gets to read its reply.

        However it ends, with the body, in time or in an error, the connection ends after it.
        """
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except Exception as error:
            # The reader keeps the error that ended it, and its traceback holds the reader: the
            # connection and its request would stay until a full collection finds the ring.
            error.__traceback__ = None
        if not payload.is_eof():
            self.close()


def _refusal_of(error: Exception) -> Refused:
    message = str(getattr(error, "message", ""))
    if isinstance(error, LineTooLong) or message.startswith("Too many headers"):
        return Refused("headers_too_large")
    if message.strip().startswith("Invalid method"):  # LIST of Vault's clients, for one
        return Refused("malformed_request", "The method is none that is served")
    return Refused("malformed_request")
