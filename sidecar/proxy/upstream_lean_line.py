"""One connection to an upstream: a request goes out in one piece, replies are read one by one.

Knows: the wire of HTTP/1.1 replies (RFC 9112) on one transport. `httptools` splits the bytes;
what it leaves to its user is decided here: which protocol a status line may name, interim replies,
replies to HEAD, bodies that end with the connection, how much of what may come, and that a byte
nobody asked for spoils the connection. A reply that came whole needs no reading: it is handed over
at once. One object hears the transport and the parser; one future a call is all that is waited for.
Must not know: which upstream this is, how the connection was opened, what a refusal leads to.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidecar.errors import Refused
from sidecar.proxy.reply_head import framing, read_headers
from sidecar.proxy.upstream import Headers
from sidecar.proxy.upstream_pool import Deadlines

#: The head of a reply, status line and header lines; an interim one counts for itself.
HEAD_BYTES_MAX = 64 * 1024
INTERIM_REPLIES_MAX = 8
#: What a chunked body may say about itself (extensions, trailers) before its next byte.
ASIDE_BYTES_MAX = 16 * 1024
#: So much of a body waits here for its reader; then the upstream has to wait.
BUFFERED_BYTES_MAX = 128 * 1024
#: A larger body is not copied to make one piece of a request.
JOINED_BYTES_MAX = 64 * 1024

_STATUS_LINE = b"HTTP/1."
_DIGIT_AT = 9
_USUAL_START = re.compile(rb"HTTP/1\.[01] [2-5]")
_INTERIM = ord("1")
_NO_CONTENT = 204

# Where a connection stands.
_IDLE, _HEAD, _BODY, _DONE, _BROKEN = range(5)


class LeanLine(asyncio.Protocol):
    """A connection, kept by a Pool (see Kept) and watched by Deadlines (see Waiting).

    `ask` gives a future; once it is done, `status` and `headers` are the reply's head and, if
    `is_whole`, `taken` gives all of its body; else `read` gives the body as it comes.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_aside_bytes",
        "_buffered_bytes",
        "_fault",
        "_head",
        "_held",
        "_interim",
        "_is_head_request",
        "_is_paused",
        "_keeps_alive",
        "_loop",
        "_more",
        "_parser",
        "_phase",
        "_pieces",
        "_poll",
        "_silences",
        "_transport",
        "_write",
        "headers",
        "is_whole",
        "status",
        "until_s",
    )

    status: int
    headers: Headers
    is_whole: bool
    _write: Callable[[bytes], None]

    def __init__(self, loop: asyncio.AbstractEventLoop, silences: Deadlines) -> None:
        self._loop = loop
        self._silences = silences
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._parser = HttpResponseParser(self)
        self._phase = _IDLE
        self._fault: Refused | None = None
        self._answer: asyncio.Future[None] | None = None
        self._more: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._is_paused = False
        self._is_head_request = False
        self._keeps_alive = False
        #: Of a head: what has come while it is not whole, then the whole of it.
        self._held = b""
        self._head = b""
        self._aside_bytes = 0
        self._interim = 0
        self.until_s = 0.0

    # -- what its owner does -----------------------------------------------------------------

    def watch(self, own: socket.socket) -> None:
        """Takes the socket under the transport, to look at what has not been read yet."""
        self._poll = select.poll()
        self._poll.register(own.fileno(), select.POLLIN)

    def is_fit(self) -> bool:
        """Whether nothing came unasked and the upstream has not closed, to the latest knowledge.

        The kernel is asked too: what lies there unread, bytes or the end, came before any
        request, so that it is certain that none was sent and another connection may be taken.
        """
        transport = self._transport
        return (
            self._phase == _IDLE
            and transport is not None
            and not transport.is_closing()
            and (self._poll is None or not self._poll.poll(0))
        )

    def ask(self, head: bytes, body: bytes, is_head_request: bool) -> asyncio.Future[None]:
        """Writes a request and gives what its sender waits for; the line must be fit."""
        self._phase = _HEAD
        self._is_head_request = is_head_request
        self._interim = 0
        self._answer = answer = self._loop.create_future()
        if len(body) <= JOINED_BYTES_MAX:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)
        return answer

    def taken(self) -> bytes:
        """What of the body is here; the upstream may send more of it."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        self._buffered_bytes = 0
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end.

        Raises Refused: upstream_timeout if they do not come in time, upstream_broken.
        """
        while not self._pieces:
            if self._fault is not None:
                raise self._fault
            if self._phase == _DONE:
                return b""
            self._more = self._loop.create_future()
            self._silences.begin(self)
            try:
                await self._more
            finally:
                self._silences.end(self)
                self._more = None
        return self.taken()

    def may_serve_again(self) -> bool:
        """Whether the reply just read to its end left nothing behind; then it is idle."""
        transport = self._transport
        if (
            self._phase != _DONE
            or not self._keeps_alive
            or transport is None
            or transport.is_closing()
            or transport.get_write_buffer_size()  # the reply came before all was said
        ):
            return False
        if self._is_head_request:  # its parser may still expect a body
            self._parser = HttpResponseParser(self)
        self._phase = _IDLE
        return True

    def abort(self) -> None:
        """Drops the connection at once."""
        self._phase = _BROKEN
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """Drops the connection; who still waits for its reply is told."""
        if self._phase in (_HEAD, _BODY):
            self._break(Refused("upstream_broken", detail="all connections are being closed"))
        else:
            self.abort()

    def out_of_time(self) -> None:
        """Nothing came for too long."""
        self._break(Refused("upstream_timeout"))

    # -- what the transport says -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # Not all event loops derive their transports from asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._phase == _HEAD:
            end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            if end > 0 and not self._held and _USUAL_START.match(data):
                self._head = data[:end]
            elif not (data := self._from_head(data)):
                return
        elif self._phase != _BODY:
            self._spoil()
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self._phase != _DONE:
                self._break(_reason(error))
                return
            self._spoil()  # the reply is whole; what follows it was not asked for
        answer = self._answer
        if answer is not None:
            if self._phase == _HEAD:  # the parser sees its end elsewhere: neither is believed
                self._break(Refused("upstream_broken", detail="a head that ends twice"))
                return
            self._answer = None
            self._aside_bytes = 0
            self.is_whole = self._phase == _DONE
            if not self.is_whole:
                self._hold_back(len(data))
            if not answer.done():
                answer.set_result(None)
        else:
            self._body_came(len(data))

    def eof_received(self) -> None:
        """See asyncio.Protocol; the transport closes by itself."""
        if self._phase == _BODY and not framing(self.headers) and self._is_true_end():
            self._phase = _DONE
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._phase in (_HEAD, _BODY):
            self._break(Refused("upstream_broken", detail=repr(error) if error else "it closed"))
        elif self._phase == _IDLE:
            self._phase = _BROKEN
        self._transport = None
        self._poll = None
        del self._write
        del self._parser  # it holds on to this object, as this object did to it

    # -- what the parser says ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a reply."""
        if self._phase != _HEAD:
            raise Refused("upstream_broken", detail="a second reply")

    def on_headers_complete(self) -> None:
        """The end of a head: here it is judged, before anything is made of the body."""
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._interim_came(status)
            return
        self.status = status
        self.headers = headers = read_headers(status, self._head)
        self._keeps_alive = parser.should_keep_alive()
        if status == _NO_CONTENT and any(value != "0" for _, value in framing(headers)):
            self._keeps_alive = False  # the parser expects no body, the upstream may send one
        self._phase = _DONE if self._is_head_request else _BODY

    def on_body(self, piece: bytes) -> None:
        """Bytes of a body, as they came."""
        if self._phase != _BODY:
            raise Refused("upstream_broken", detail="a body where none may be")
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of a reply, interim or final."""
        if self._phase == _BODY:
            self._phase = _DONE

    # -- its own -------------------------------------------------------------------------------

    def _from_head(self, data: bytes) -> bytes:
        """All that is here, from the final reply's head on; b"" while that head is not whole.

        A head goes to the parser in one piece, so that its status line and its end are seen here
        too: alone, the parser takes RTSP for HTTP, and empty lines for nothing.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        while (end := data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)) >= 0:
            if not data.startswith(_STATUS_LINE):
                break
            self._head = data[:end]
            if data[_DIGIT_AT] != _INTERIM:
                return data
            try:
                self._parser.feed_data(data[: end + 4])
            except (HttpParserError, HttpParserUpgrade) as error:
                self._break(_reason(error))
                return b""
            data = data[end + 4 :]
        if data[: len(_STATUS_LINE)] != _STATUS_LINE[: len(data)]:
            self._break(Refused("upstream_broken", detail=f"no status line: {data[:32]!r}"))
        elif len(data) > HEAD_BYTES_MAX:
            self._break(Refused("upstream_broken", "The upstream's header is too large"))
        else:
            self._held = data
        return b""

    def _interim_came(self, status: int) -> None:
        self._interim += 1
        if status == 101:
            raise Refused("upstream_broken", "The upstream switched protocols unasked")
        if self._interim > INTERIM_REPLIES_MAX:
            raise Refused("upstream_broken", "The upstream sent interim replies without end")
        if framing(read_headers(status, self._head)):
            raise Refused("upstream_broken", detail="an interim reply with a body")

    def _is_true_end(self) -> bool:
        """Whether it was the upstream who ended the stream: under TLS, anyone can cut it."""
        secured = cast(asyncio.Transport, self._transport).get_extra_info("ssl_object")
        try:
            return secured is None or secured.read(1) == b""  # the end as TLS says it
        except ssl.SSLError:
            return False

    def _body_came(self, size: int) -> None:
        """After each piece of a body; wakes who waits for it."""
        if self._pieces:
            self._aside_bytes = 0
            if self._phase == _BODY:
                self._hold_back(size)
        else:
            self._aside_bytes += size
            if self._aside_bytes > ASIDE_BYTES_MAX:
                self._break(Refused("upstream_broken", detail="a chunk's extensions, or trailers"))
                return
        if self._pieces or self._phase == _DONE:
            self._wake()
        elif self._more is not None:  # not a byte of the body, but no silence either
            self._silences.end(self)
            self._silences.begin(self)

    def _hold_back(self, size: int) -> None:
        """Lets the upstream wait if too much waits here already."""
        self._buffered_bytes += size
        if self._buffered_bytes > BUFFERED_BYTES_MAX and self._pieces and not self._is_paused:
            self._is_paused = True
            cast(asyncio.Transport, self._transport).pause_reading()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _spoil(self) -> None:
        """Sees to it that the connection is not used again; a reply that is whole stays good."""
        self._keeps_alive = False
        if self._phase != _DONE:
            self._phase = _BROKEN
        if self._transport is not None:
            self._transport.abort()

    def _break(self, refused: Refused) -> None:
        """Ends the reply: who waits for it, or reads on later, is told why."""
        self._phase = _BROKEN
        self._fault = refused
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(refused)
        self._wake()
        if self._transport is not None:
            self._transport.abort()


def _reason(error: Exception) -> Refused:
    """What a callback of ours said, or the parser itself."""
    if isinstance(error.__context__, Refused):
        return error.__context__
    return Refused("upstream_broken", detail=repr(error))
