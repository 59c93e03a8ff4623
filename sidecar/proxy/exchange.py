"""One request and its reply on the agent's connection.

Knows: HTTP/1.1 framing of replies, back-pressure, deadlines, and how to take what has already
arrived without waiting. It stands in for aiohttp's request object and its response object, so that
a reply is one write instead of a dozen calls.
Must not know: upstreams, policies, why something is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from sidecar.errors import Refused
from sidecar.proxy.agent_side import ClientGone
from sidecar.proxy.arrived import arrived_body
from sidecar.proxy.head import RequestHead
from sidecar.proxy.reply_media import takes_comments

if TYPE_CHECKING:
    from sidecar.policy.terms import Obligations
    from sidecar.proxy.connection import DoorConnection
    from sidecar.proxy.dialects.held import HeldReply
    from sidecar.proxy.websocket_relay import Relay

__all__ = ["ClientGone", "Exchange"]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SWITCHING = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

#: A body that is larger is written apart from the head, rather than copied behind it.
_JOINED_BYTES_MAX = 64 * 1024


class Framing(NamedTuple):
    """How a reply's end is told: the lines to add, and whether chunks are framed."""

    lines: str
    is_chunked: bool
    has_body: bool


_IN_CHUNKS = Framing("Transfer-Encoding: chunked\r\n", True, True)
_LAST_CHUNK = b"0\r\n\r\n"


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Exchange:
    """A request as it arrived and the one reply to it.

    `message` is the head as the parser saw it, `head` is there once it was found well formed.
    `source_ip` is the agent's end of the connection ("" for a Unix socket). `has_begun` says that
    a byte of the reply was sent, `keep_alive` whether the connection may serve another request.
    """

    __slots__ = (
        "_held",
        "_opening",
        "_payload",
        "_protocol",
        "_write_wait_s",
        "has_begun",
        "head",
        "keep_alive",
        "message",
        "source_ip",
    )

    head: RequestHead

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: DoorConnection,
        write_wait_s: float,
    ) -> None:
        self.message = message
        self.source_ip = protocol.source_ip
        self._payload = payload
        self._protocol = protocol
        self._write_wait_s = write_wait_s
        self.has_begun = False
        #: The stream of events that was begun while the call was held: the reply stands in it.
        self._held: HeldReply | None = None
        #: The head of a stream, until it is written.
        self._opening = b""
        #: Behind a request for an upgrade nothing is read as HTTP, whatever becomes of it.
        self.keep_alive = not (message.should_close or message.upgrade)

    # -- the request -----------------------------------------------------------------------

    @property
    def has_whole_body(self) -> bool:
        """Whether the end of the body was seen."""
        return self._payload.is_eof()

    @property
    def body_bytes(self) -> int:
        """How much of the body has arrived, without what framed it."""
        return self._payload.total_bytes

    @property
    def is_draining(self) -> bool:
        """Whether the sidecar is stopping: then it is not the client who ends an exchange."""
        return self._protocol.is_draining

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The certificate the client has shown and TLS has verified; None without one."""
        transport = self._protocol.transport
        shown = None if transport is None else transport.get_extra_info("peercert")
        return shown or None

    def arrived_body(self, limit_bytes: int) -> bytes | None:
        """The whole body if it is here already, None while it is not.

        Raises Refused("body_too_large").
        """
        payload = self._payload
        announced = self.head.first.get("content-length")
        if announced is not None and int(announced) > limit_bytes:
            raise self._last(Refused("body_too_large", _too_large(limit_bytes)))
        if not payload.is_eof():
            return None
        body = arrived_body(payload, self._protocol)
        if len(body) > limit_bytes:
            raise self._last(Refused("body_too_large", _too_large(limit_bytes)))
        return body

    async def read_body(
        self, limit_bytes: int, wait_s: float, arriving: Callable[[int], None]
    ) -> bytes:
        """The whole body; `100 Continue` is sent only here, if the client waits for it. `arriving`
        is told how much of it is kept by now, before it is; what it raises ends the reading.

        Raises Refused: body_too_large, request_timeout, body_incomplete; ClientGone.
        """
        body = self.arrived_body(limit_bytes)
        if body is not None:
            return body
        if self._waits_for_continue():
            self._transport().write(_CONTINUE)
        try:
            async with asyncio.timeout(wait_s):
                return await self._collect(limit_bytes, arriving)
        except TimeoutError:
            raise self._last(Refused("request_timeout")) from None

    def _waits_for_continue(self) -> bool:
        head = self.head
        return (
            head.first.get("expect") is not None
            and head.version == (1, 1)
            and self._payload.total_bytes == 0
        )

    async def _collect(self, limit_bytes: int, arriving: Callable[[int], None]) -> bytes:
        # One buffer: pieces of two bytes, kept apart, would take twenty times what is counted.
        kept = bytearray()
        try:
            while piece := await self._payload.readany():
                size = len(kept) + len(piece)
                if size > limit_bytes:
                    raise self._last(Refused("body_too_large", _too_large(limit_bytes)))
                arriving(size)
                kept += piece
        except Refused as refused:
            raise self._last(refused) from None
        except (asyncio.CancelledError, TimeoutError):
            raise
        except Exception as error:
            if not self._protocol.connected:
                raise ClientGone from error
            raise self._last(Refused("body_incomplete", detail=repr(error))) from error
        return bytes(kept)

    def fail_body(self, error: Exception) -> None:
        """Ends a wait for the body: the connection is lost, or its framing is not to be trusted."""
        if not self._payload.is_eof():
            self.keep_alive = False
            self._payload.set_exception(error)

    def _last(self, refused: Refused) -> Refused:
        """Marks this as the connection's last exchange: its framing is not to be trusted."""
        self.keep_alive = False
        return refused

    # -- the reply -------------------------------------------------------------------------

    def oblige(self, obligations: Obligations) -> None:
        """Nothing else reaches the agent here: all that a call brings is in its own reply."""

    async def hold_on(self, held: HeldReply | None, words: str) -> None:
        """Begins a stream of events, in which the reply will stand, and says in it that the call
        waits. Raises ClientGone."""
        transport = self._transport()
        if held is None or self.message.version < (1, 1):
            return
        if self._held is None:
            self._held = held
            transport.write(self._head(200, held.headers, _IN_CHUNKS.lines))
        transport.write(_chunk(held.event(held.progress(words))))
        if self._protocol.writing_paused:
            await self.drain()

    async def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Sends a whole reply and waits until the client has taken what the buffers do not hold.

        Raises as `write` does.
        """
        if self.write(status, headers, body):
            await self.drain()

    def write(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> bool:
        """Writes a whole reply; whether `drain` must be waited for.

        To HEAD, and with 204 and 304, `body` is left out. A Content-Length in `headers` counts
        only to HEAD and with 304 (RFC 9110 section 8.6); else the body's own length is told.
        Raises ClientGone; ValueError for a header that would split the reply.
        """
        if self._held is not None:
            self.has_begun = True
            answer = self._held.answer(status, headers, body)
            self._transport().write(_chunk(answer) + _LAST_CHUNK)
            return self._protocol.writing_paused
        if status == 204 or (status != 304 and self.message.method != "HEAD"):
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
        if self.message.method == "HEAD" or status in (204, 304):
            framing = ""
            body = b""
        else:
            framing = f"Content-Length: {len(body)}\r\n"
        head = self._head(status, headers, framing)
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        self.has_begun = True
        if len(body) <= _JOINED_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return self._protocol.writing_paused

    async def stream(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        chunks: AsyncIterator[bytes],
    ) -> None:
        """Sends a reply as it comes: each chunk as one write, the head at once, in one write with a
        first chunk that is here already; a stream of events that is silent for long gets comments
        of our own between its events.

        With a Content-Length in `headers` the body is sent under it; else it is chunked, or for
        HTTP/1.0 ended by closing. Waits while the client is slow, up to the write deadline.
        Raises ClientGone; whatever `chunks` raises (the caller then aborts the connection).
        """
        if self._held is not None:
            framing, chunks = _IN_CHUNKS, self._held.answers(status, headers, chunks)
        else:
            framing = self._framing(status, headers)
            opening = self._head(status, headers, framing.lines)
            if not framing.has_body:
                self._transport().write(opening)
                self.has_begun = True
                return
            self._transport()
            self._opening = opening
            asyncio.get_running_loop().call_soon(self._open)
        self.has_begun = True
        beat = None
        if framing.is_chunked and (self._held is not None or takes_comments(status, headers)):
            beat = self._protocol.heartbeats.begin(self)
        if beat is not None:
            self._protocol.notice_vanishing()
        try:
            async for chunk in chunks:
                piece = chunk if beat is None else beat.passes(chunk)
                if not piece:
                    continue
                said = _chunk(piece) if framing.is_chunked else piece
                self._transport().write(self._opened(said) if self._opening else said)
                if self._protocol.writing_paused:
                    await self.drain()
        finally:
            if beat is not None:
                self._protocol.heartbeats.end(beat)
        if framing.is_chunked:
            self._transport().write(self._opened(_LAST_CHUNK))
        else:
            self._open()

    def _opened(self, said: bytes) -> bytes:
        """What is to be written first, or next, of a stream."""
        opening, self._opening = self._opening, b""
        return opening + said

    def _open(self) -> None:
        """Writes the head of a stream whose first chunk is not here yet."""
        transport = self._protocol.transport
        if self._opening and transport is not None and not transport.is_closing():
            transport.write(self._opened(b""))

    @property
    def is_quiet(self) -> bool:
        """Whether the client is there and has been given all that was sent so far."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            return False
        return not transport.get_write_buffer_size()

    def interject(self, piece: bytes) -> None:
        """Sends a piece in the middle of a reply that comes in chunks. Raises ClientGone."""
        self._transport().write(_chunk(piece))

    async def switch(self, headers: Sequence[tuple[str, str]], relay: Relay) -> None:
        """Sends a 101 and leaves the connection to `relay` until that has ended.

        Raises ClientGone: also where bytes came before this answer (RFC 6455 section 4.1).
        """
        transport = self._transport()
        if self._protocol.has_early_bytes:
            raise ClientGone
        transport.write(_lines(101, headers, _SWITCHING))
        self.has_begun = True
        await self._protocol.carry(relay)

    def abort(self) -> None:
        """Drops the connection at once, so that a broken reply cannot pass for a whole one."""
        self.keep_alive = False
        transport = self._protocol.transport
        if transport is not None:
            transport.abort()

    def _framing(self, status: int, headers: Sequence[tuple[str, str]]) -> Framing:
        if self.message.method == "HEAD" or status in (204, 304):
            return Framing("", False, False)
        if any(name.lower() == "content-length" for name, _ in headers):
            return Framing("", False, True)
        if self.message.version >= (1, 1):
            return _IN_CHUNKS
        self.keep_alive = False
        return Framing("", False, True)

    def _head(self, status: int, headers: Sequence[tuple[str, str]], framing: str) -> bytes:
        if not self._payload.is_eof() or self._protocol.is_draining:
            self.keep_alive = False
        if not self.keep_alive:
            framing += "Connection: close\r\n"
        elif self.message.version < (1, 1):
            framing += "Connection: keep-alive\r\n"
        return _lines(status, headers, framing)

    def _transport(self) -> asyncio.Transport:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        return transport

    async def drain(self) -> None:
        """Waits while the client is slow, up to the write deadline; raises ClientGone."""
        try:
            async with asyncio.timeout(self._write_wait_s):
                await self._protocol._drain_helper()
        except (TimeoutError, ConnectionError) as error:
            self.abort()
            raise ClientGone from error

    # -- what aiohttp's connection class asks of a request ------------------------------------

    def _cancel(self, error: BaseException) -> None:
        """The connection is lost or shut down while the handler runs."""
        if isinstance(error, Exception):
            self.fail_body(error)


def _lines(status: int, headers: Sequence[tuple[str, str]], framing: str) -> bytes:
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    expected = len(headers)
    if fields.count("\n") != expected or fields.count("\r") != expected or "\0" in fields:
        raise ValueError("a reply header holds CR, LF or NUL")
    return f"{line}{fields}{framing}\r\n".encode("utf-8", "surrogateescape")


def _too_large(limit_bytes: int) -> str:
    return f"The request body is larger than {limit_bytes} bytes"
