"""Connections to one upstream between and during their calls, whatever library made them.

Knows: which idle connection may serve again, how long one may lie idle, and that everyone who
waits for the same thing waits equally long, so that one timer serves all of them.
A list's push and pop is all that keeping a connection costs a call.
Must not know: requests, what a refusal is, how a connection is opened.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

#: Below the five seconds after which many servers close an idle connection: a request must not
#: meet a connection that is just being closed, because it is never sent twice.
IDLE_S = 4.0


class Kept(Protocol):
    """An open connection as the pool sees it."""

    #: Until when it may lie idle, by the loop's clock.
    until_s: float

    def is_fit(self) -> bool:
        """Whether a request may be written: what came unasked would pass for its reply."""
        ...

    def may_serve_again(self) -> bool:
        """Whether the reply that just ended left it ready for another request."""
        ...

    def abort(self) -> None:
        """Drops the connection at once."""
        ...


class Waiting(Protocol):
    """Someone who waits for bytes."""

    def out_of_time(self) -> None:
        """They did not come."""
        ...


K = TypeVar("K", bound=Kept)


class Pool(Generic[K]):
    """Idle lines; the one used last goes first, so that a quiet hour lets the rest go."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        #: Oldest first.
        self._idle: list[K] = []
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> K | None:
        """A line that is fit for a request; None if there is none."""
        idle = self._idle
        while idle:
            line = idle.pop()
            if line.is_fit():
                return line
            line.abort()
        return None

    def give(self, line: K) -> None:
        """Takes back a line whose reply was read to its end."""
        if not line.may_serve_again():
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


class Deadlines:
    """Those who wait, all for the same time, in the order in which their waiting began."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[Waiting, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, one: Waiting) -> None:
        """If `end` does not come in time, `one` is told; it must not be waiting already."""
        self._until_s[one] = self._loop.time() + self._wait_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._wait_s, self._sweep)

    def end(self, one: Waiting) -> None:
        """What was waited for is there, or nobody waits for it any more."""
        self._until_s.pop(one, None)

    def close(self) -> None:
        """Nobody will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for one, until_s in list(self._until_s.items()):
            if until_s > now_s:
                self._timer = self._loop.call_later(max(until_s - now_s, 0.001), self._sweep)
                return
            del self._until_s[one]
            one.out_of_time()
