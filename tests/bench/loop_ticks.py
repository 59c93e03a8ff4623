"""A tick every millisecond on the event loop, as calls come: how late each is, and what the process
did meanwhile.

`late_ms` is time by the clock, with whatever else the machine does. `busy_ms` is the CPU time that
all threads of the process took since the tick before: on a busy machine it still tells how long one
of them held up the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

TICK_S = 0.001


@dataclass
class Ticks:
    """What was noted so far."""

    late_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)

    def add(self, other: Ticks) -> None:
        """Notes all that another has noted."""
        self.late_ms += other.late_ms
        self.busy_ms += other.busy_ms

    def taken(self) -> Ticks:
        """All that was noted, which is noted no more."""
        found = Ticks(self.late_ms[:], self.busy_ms[:])
        self.late_ms.clear()
        self.busy_ms.clear()
        return found


@asynccontextmanager
async def ticking(work: Callable[[], object]) -> AsyncIterator[Ticks]:
    """Ticks until the block ends; each does `work`."""
    ticks = Ticks()

    async def tick() -> None:
        cpu = time.process_time()
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            before, cpu = cpu, time.process_time()
            ticks.busy_ms.append((cpu - before) * 1e3)
            ticks.late_ms.append(max(0.0, time.perf_counter() - due) * 1e3)
            work()

    task = asyncio.create_task(tick())
    try:
        yield ticks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share is at most."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
