"""Connections to one upstream between and during their calls.

Knows: which idle connection may serve again, how long one may lie idle, and that everyone who
waits for a reply's head waits equally long, so that one timer serves all of them.
aiohttp's connector opens connections; keeping them here costs a list's push and pop a call, where
the connector's own pool walks through its limits, its traces and its waiters.
Must not know: requests, replies, what a refusal is.
"""

from __future__ import annotations

import asyncio

from aiohttp.client_exceptions import SocketTimeoutError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

#: Below the five seconds after which many servers close an idle connection: a request must not
#: meet a connection that is just being closed, because it is never sent twice.
IDLE_S = 4.0


def abort(connection: Connection) -> None:
    """Drops a connection at once."""
    protocol = connection.protocol
    if protocol is not None:
        protocol.abort()
    connection.close()


def is_fit(connection: Connection) -> bool:
    """Whether a request may be written: what came unasked would pass for its reply."""
    protocol = connection.protocol
    return protocol is not None and not protocol.should_close and protocol.is_connected()


class Pool:
    """Idle connections; the one used last goes first, so that a quiet hour lets the rest go."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        #: Oldest first, each with the time from which it may not be used any more.
        self._idle: list[tuple[float, Connection]] = []
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> Connection | None:
        """A connection that is fit for a request; None if there is none."""
        while self._idle:
            until_s, connection = self._idle.pop()
            if self._loop.time() < until_s and is_fit(connection):
                return connection
            abort(connection)
        return None

    def give(self, connection: Connection) -> None:
        """Takes back a connection whose reply was read to its end."""
        if not is_fit(connection):
            abort(connection)
            return
        self._idle.append((self._loop.time() + self._idle_s, connection))
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_s, self._sweep)

    def close(self) -> None:
        """Drops what is idle."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            abort(self._idle.pop()[1])

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        fresh = [one for one in self._idle if one[0] > now_s]
        for _, connection in self._idle[: len(self._idle) - len(fresh)]:
            abort(connection)
        self._idle = fresh
        if fresh:
            # Never finer than a tenth of a second: idle connections are let go in crowds.
            self._timer = self._loop.call_later(max(fresh[0][0] - now_s, 0.1), self._sweep)


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
