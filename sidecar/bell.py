"""A bell between processes that share a store: who polls looks now, and not at his next turn.

Knows: that a ring may be lost, so that whoever rests gets up by himself all the same.
Must not know: who rings, how it is heard elsewhere, what is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def _nobody() -> None:
    """Where no other process shares the store."""


class Bell:
    """One for each thing that is polled. All is done on the event loop's thread."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        #: Rings at the other processes.
        self.ring_elsewhere: Callable[[], None] = _nobody

    def ring(self) -> None:
        """Whoever rests gets up; if nobody does, the next one does at once."""
        self._rung.set()

    async def rest(self, wait_s: float) -> None:
        """Comes back when it rings, at the latest after so long."""
        try:
            async with asyncio.timeout(wait_s):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()
