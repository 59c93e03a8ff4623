"""Connections to one upstream between and during their calls.

Knows: which idle connection may serve again, how long one may lie idle, and that everyone who
waits for a reply's head waits equally long, so that one timer serves all of them.
aiohttp's connector opens connections; keeping them here costs a list's push and pop a call, where
the connector's own pool walks through its limits, its traces and its waiters.
Must not know: requests, what a refusal is.
"""

from __future__ import annotations

import asyncio

from aiohttp.client_exceptions import ClientConnectionError, SocketTimeoutError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

#: Below the five seconds after which many servers close an idle connection: a request must not
#: meet a connection that is just being closed, because it is never sent twice.
IDLE_S = 4.0

LINE_BYTES_MAX = 16 * 1024
HEADERS_MAX = 256


class LineProtocol(ResponseHandler):
    """aiohttp's, but for what it does at the end of every body though nothing was paused."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """See BaseProtocol."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


class Line:
    """One open connection. `protocol` is what replies are read from."""

    __slots__ = ("_connection", "_is_ready", "protocol", "until_s")

    def __init__(self, connection: Connection) -> None:
        """Takes over a connection just opened; raises ClientConnectionError if it is not fit."""
        if connection.protocol is None:
            raise ClientConnectionError("the connection closed at once")
        self.protocol: ResponseHandler = connection.protocol
        self._connection = connection
        self._is_ready = False
        #: Until when it may lie idle, by the loop's clock.
        self.until_s = 0.0
        if not self.is_fit():
            self.abort()
            raise ClientConnectionError("the upstream talks before it is asked")

    def is_fit(self) -> bool:
        """Whether a request may be written: what came unasked would pass for its reply."""
        protocol = self.protocol
        return not protocol.should_close and protocol.is_connected()

    def expect_reply(self, *, has_body: bool) -> None:
        """Gets ready to parse the reply to a request; to HEAD it has no body.

        A parser goes on from one reply to the next, as they do on the wire.
        """
        if self._is_ready and has_body:
            return
        self.protocol.set_response_params(
            skip_payload=not has_body,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )
        self._is_ready = has_body

    def abort(self) -> None:
        """Drops the connection at once."""
        self.protocol.abort()
        self._connection.close()


class Pool:
    """Idle lines; the one used last goes first, so that a quiet hour lets the rest go."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        #: Oldest first.
        self._idle: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> Line | None:
        """A line that is fit for a request; None if there is none."""
        while self._idle:
            line = self._idle.pop()
            if self._loop.time() < line.until_s and line.is_fit():
                return line
            line.abort()
        return None

    def give(self, line: Line) -> None:
        """Takes back a line whose reply was read to its end."""
        if line.protocol.should_close:
            line.abort()
            return
        line.until_s = self._loop.time() + self._idle_s
        self._idle.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_s, self._sweep)

    def close(self) -> None:
        """Drops what is idle."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.pop().abort()

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        fresh = [line for line in self._idle if line.until_s > now_s]
        for line in self._idle[: len(self._idle) - len(fresh)]:
            line.abort()
        self._idle = fresh
        if fresh:
            # Never finer than a tenth of a second: idle lines are let go in crowds.
            self._timer = self._loop.call_later(max(fresh[0].until_s - now_s, 0.1), self._sweep)


class AwaitedHeads:
    """Replies whose heads are waited for, in the order in which the waiting began."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[ResponseHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, protocol: ResponseHandler) -> None:
        """If `end` does not come in time, reading from `protocol` raises SocketTimeoutError."""
        self._until_s[protocol] = self._loop.time() + self._wait_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._wait_s, self._sweep)

    def end(self, protocol: ResponseHandler) -> None:
        """The head is there, or nobody waits for it any more."""
        self._until_s.pop(protocol, None)

    def close(self) -> None:
        """Nobody will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for protocol, until_s in list(self._until_s.items()):
            if until_s > now_s:
                self._timer = self._loop.call_later(max(until_s - now_s, 0.001), self._sweep)
                return
            del self._until_s[protocol]
            protocol.set_exception(SocketTimeoutError("no reply head in time"))
