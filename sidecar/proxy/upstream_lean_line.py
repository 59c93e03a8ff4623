"""One connection to an upstream: a request goes out in one piece, its reply comes back.

Knows: one transport. A reply that came whole needs no reading: it is handed over at once. One
object hears the transport and the parser; one future a call is all that is waited for.
Must not know: what a reply looks like on the wire, which upstream this is, how the connection was
opened, what a refusal leads to.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from typing import cast

from sidecar.errors import Refused
from sidecar.proxy.upstream import Switched
from sidecar.proxy.upstream_lean_reply import BODY, BROKEN, DONE, HEAD, IDLE, SWITCHED, LeanReply
from sidecar.proxy.upstream_pool import Deadlines

#: So much of a body waits here for its reader; then the upstream has to wait.
BUFFERED_BYTES_MAX = 128 * 1024
#: A larger body is not copied to make one piece of a request.
JOINED_BYTES_MAX = 64 * 1024


class LeanLine(LeanReply, asyncio.Protocol):
    """A connection, kept by a Pool (see Kept) and watched by Deadlines (see Waiting).

    `ask` gives a future; once it is done, `status` and `headers` are the reply's head and, if
    `is_whole`, `taken` gives all of its body; else `read` gives the body as it comes.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_buffered_bytes",
        "_fault",
        "_is_paused",
        "_loop",
        "_more",
        "_poll",
        "_silences",
        "_transport",
        "_write",
        "is_whole",
        "until_s",
    )

    is_whole: bool
    _write: Callable[[bytes], None]

    def __init__(self, loop: asyncio.AbstractEventLoop, silences: Deadlines) -> None:
        super().__init__()
        self._loop = loop
        self._silences = silences
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._fault: Refused | None = None
        self._answer: asyncio.Future[None] | None = None
        self._more: asyncio.Future[None] | None = None
        self._buffered_bytes = 0
        self._is_paused = False
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
            self.phase == IDLE
            and transport is not None
            and not transport.is_closing()
            and (self._poll is None or not self._poll.poll(0))
        )

    def ask(
        self, head: bytes, body: bytes, is_head_request: bool, may_switch: bool = False
    ) -> asyncio.Future[None]:
        """Writes a request and gives what its sender waits for; the line must be fit."""
        self.await_reply(is_head_request, may_switch)
        self._answer = answer = self._loop.create_future()
        if len(body) <= JOINED_BYTES_MAX:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)
        return answer

    def taken(self) -> bytes:
        """What of the body is here; the upstream may send more of it."""
        pieces = self.pieces
        if not pieces:
            return b""
        self.pieces = []
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
        while not self.pieces:
            if self._fault is not None:
                raise self._fault
            if self.phase == DONE:
                return b""
            self._more = self._loop.create_future()
            self._silences.begin(self)
            try:
                await self._more
            finally:
                self._silences.end(self)
                self._more = None
        return self.taken()

    @property
    def has_switched(self) -> bool:
        """Whether the upstream has agreed to another protocol."""
        return self.phase == SWITCHED

    def hand_over(self) -> Switched:
        """Gives the connection of a line that has switched away; nothing of it stays here."""
        transport = self._transport
        if transport is None:
            raise Refused("upstream_broken", detail="it closed")
        first = b"".join(self.pieces)
        self.phase = BROKEN
        self._forget()
        return Switched(transport, first)

    def _forget(self) -> None:
        self._transport = None
        self._poll = None
        del self._write
        self.let_go()

    def may_serve_again(self) -> bool:
        """Whether the reply just read to its end left nothing behind; then it is idle."""
        transport = self._transport
        if (
            self.phase != DONE
            or not self.keeps_alive
            or transport is None
            or transport.is_closing()
            or transport.get_write_buffer_size()  # the reply came before all was said
        ):
            return False
        self.start_over()
        return True

    def abort(self) -> None:
        """Drops the connection at once."""
        self.phase = BROKEN
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """Drops the connection; who still waits for its reply is told."""
        if self.phase in (HEAD, BODY):
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
        if self.phase != HEAD and self.phase != BODY:
            self._spoil()
            return
        try:
            if not self.feed(data):
                return
        except Refused as refused:
            if self.phase != DONE:
                self._break(refused)
                return
            self._spoil()  # the reply is whole; what follows it was not asked for
        if self.phase == BODY and self.pieces:
            self._hold_back(len(data))
        elif self.phase == SWITCHED:
            # Whoever takes it over reads on.
            cast(asyncio.Transport, self._transport).pause_reading()
        answer = self._answer
        if answer is not None:
            self._answer = None
            self.is_whole = self.phase == DONE
            if not answer.done():
                answer.set_result(None)
        elif self.pieces or self.phase == DONE:
            self._wake()
        elif self._more is not None:  # not a byte of the body, but no silence either
            self._silences.end(self)
            self._silences.begin(self)

    def eof_received(self) -> None:
        """See asyncio.Protocol; the transport closes by itself."""
        if self.ends_with_connection() and self._is_true_end():
            self.phase = DONE
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._transport is None:  # handed over, and dropped by whom it was given to
            return
        if self.phase in (HEAD, BODY):
            refused = Refused("upstream_broken", detail=repr(error) if error else "it closed")
            refused.__cause__ = error
            self._break(refused)
        elif self.phase in (IDLE, SWITCHED):
            self.phase = BROKEN
        self._forget()

    # -- its own -------------------------------------------------------------------------------

    def _is_true_end(self) -> bool:
        """Whether it was the upstream who ended the stream: under TLS, anyone can cut it."""
        secured = cast(asyncio.Transport, self._transport).get_extra_info("ssl_object")
        try:
            return secured is None or secured.read(1) == b""  # the end as TLS says it
        except ssl.SSLError:
            return False

    def _hold_back(self, size: int) -> None:
        """Lets the upstream wait if too much waits here already."""
        self._buffered_bytes += size
        if self._buffered_bytes > BUFFERED_BYTES_MAX and not self._is_paused:
            self._is_paused = True
            cast(asyncio.Transport, self._transport).pause_reading()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _spoil(self) -> None:
        """Sees to it that the connection is not used again; a reply that is whole stays good."""
        self.keeps_alive = False
        if self.phase != DONE:
            self.phase = BROKEN
        if self._transport is not None:
            self._transport.abort()

    def _break(self, refused: Refused) -> None:
        """Ends the reply: who waits for it, or reads on later, is told why."""
        self.phase = BROKEN
        self._fault = refused
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(refused)
        self._wake()
        if self._transport is not None:
            self._transport.abort()
