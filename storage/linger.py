"""Entries that nobody waits for stay a little for company, before the queue writes them alone.

Knows: that a batch of their own would make the next call wait for its sync; that who wakes for each
of them only to sleep again costs a quiet sidecar more than writing them: one timer serves all.
Must not know: what is recorded, whether the store is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

#: How long they stay, and how many of them at most. Whoever is waited for never lingers.
LINGER_NS: Final = 20_000_000
LINGER_ENTRIES_MAX: Final = 64


class Linger:
    """Their time begins with the first of them, and ends when they are taken (`end`)."""

    def __init__(self, now_ns: Callable[[], int], on_over: Callable[[], None]) -> None:
        """`on_over` is called when the time is over of those that are watched."""
        self._now_ns = now_ns
        self._on_over = on_over
        self._timer: asyncio.TimerHandle | None = None
        #: Until when; 0 while nothing stays.
        self.until_ns = 0

    def lasts(self) -> bool:
        """Whether what is there may stay still; begins its time if it has not begun."""
        now_ns = self._now_ns()
        if not self.until_ns:
            self.until_ns = now_ns + LINGER_NS
        return now_ns < self.until_ns

    def end(self) -> None:
        """All that stayed was taken."""
        self.until_ns = 0

    def watch(self) -> None:
        """Nobody looks until the time is over: `on_over` is called then."""
        if self._timer is None:
            self._begin(LINGER_NS)

    def stop(self) -> None:
        """Nobody is to be called any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, left_ns: int) -> None:
        # A timer may fire a little early: never less than a millisecond, never a spin.
        pause_s = max(left_ns / 1e9, 0.001)
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        """The timer is that of the first; those that came since may have more time."""
        self._timer = None
        if not self.until_ns:
            return
        left_ns = self.until_ns - self._now_ns()
        if left_ns > 0:
            self._begin(left_ns)
        else:
            self._on_over()
