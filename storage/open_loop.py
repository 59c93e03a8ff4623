"""Offers calls to a write queue on a schedule, whether or not earlier ones were answered.

Knows: arrivals, and the time from when a call was due until it was durable. A call that had to
wait because the process was late counts from when it was due, so that a slow store cannot make
its own load lighter and look fast. Must not know: what the calls mean.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.errors import QueueFull, QueueTimeout
from storage.records import Entry
from storage.write_queue import Slot, WriteQueue

#: A call's intent and its outcome.
Call = tuple[Entry, Entry]

#: Arrivals are let go about so often; within two of them, being late is a matter of the timer.
TICK_S = 0.001
TICKS_OF_GRACE = 2
#: So many wait in the queue at once; those beyond wait before it, and their time counts too.
CALLERS = 1024
#: The beginning of the time is not counted: everything is cold.
WARM_UP_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Served:
    """What became of the calls: rates after the warm-up, and latencies of those committed."""

    offered_calls_per_s: float
    committed_calls_per_s: float
    refused: int
    p50_s: float
    p99_s: float


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of sorted `values` that is not below `share` of them; 0 of none."""
    if not values:
        return 0.0
    return values[max(0, math.ceil(share * len(values)) - 1)]


async def offer(
    queue: WriteQueue,
    calls: list[Call],
    calls_per_s: float,
    monotonic_ns: Callable[[], int],
    at_end: Callable[[], None] | None = None,
) -> Served:
    """Offers all `calls` (and empties the list) at that rate, then waits until all are answered.

    `at_end` is called when the last call was let go, before what is late is waited for. Raises a
    StoreError if the store fails; that the queue refuses is counted.
    """
    crew = _Crew(queue, monotonic_ns)
    workers = [asyncio.create_task(crew.work()) for _ in range(min(CALLERS, len(calls)))]
    await asyncio.sleep(0)
    try:
        started_ns, ended_ns = await _let_go(crew, calls, calls_per_s, monotonic_ns)
        if at_end is not None:
            at_end()
    finally:
        crew.end()
        results = await asyncio.gather(*workers, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    from_ns = started_ns + int(WARM_UP_SHARE * (ended_ns - started_ns))
    span_s = max(1, ended_ns - from_ns) / 1e9
    committed = sum(1 for _, done_ns in crew.done if from_ns <= done_ns <= ended_ns)
    took = sorted((done - due) / 1e9 for due, done in crew.done if due >= from_ns)
    return Served(
        calls_per_s,
        committed / span_s,
        crew.refused,
        quantile(took, 0.5),
        quantile(took, 0.99),
    )


async def _let_go(
    crew: _Crew, calls: list[Call], calls_per_s: float, monotonic_ns: Callable[[], int]
) -> tuple[int, int]:
    """When the first and the last call left."""
    grace_ns = int(TICKS_OF_GRACE * TICK_S * 1e9)
    total, sent = len(calls), 0
    started_ns = now_ns = monotonic_ns()
    while True:
        until = min(total, 1 + int((now_ns - started_ns) / 1e9 * calls_per_s))
        for number in range(sent, until):
            due_ns = started_ns + int(number / calls_per_s * 1e9)
            crew.take(calls.pop(), now_ns if now_ns - due_ns <= grace_ns else due_ns)
        sent = until
        if sent >= total:
            return started_ns, now_ns
        await asyncio.sleep(TICK_S)
        now_ns = monotonic_ns()


class _Crew:
    """Callers who take the next call that is due; a task for each of them, not for each call."""

    def __init__(self, queue: WriteQueue, monotonic_ns: Callable[[], int]) -> None:
        self.done: list[tuple[int, int]] = []
        self.refused = 0
        self._queue = queue
        self._now_ns = monotonic_ns
        self._due: deque[tuple[Call, int]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._is_over = False
        self._loop = asyncio.get_running_loop()

    def take(self, call: Call, due_ns: int) -> None:
        self._due.append((call, due_ns))
        if self._idle:
            self._idle.pop().set_result(None)

    def end(self) -> None:
        """No more comes; those who wait for some may go."""
        self._is_over = True
        for turn in self._idle:
            turn.set_result(None)
        self._idle.clear()

    async def work(self) -> None:
        while True:
            while self._due:
                call, due_ns = self._due.popleft()
                await self._commit(call, due_ns)
            if self._is_over:
                return
            turn = self._loop.create_future()
            self._idle.append(turn)
            await turn

    async def _commit(self, call: Call, due_ns: int) -> None:
        slot: Slot | None = None
        try:
            slot = self._queue.reserve()
            await self._queue.submit(call[0])
        except (QueueFull, QueueTimeout):
            self.refused += 1
            if slot is not None:
                slot.release()
            return
        except BaseException:
            if slot is not None:
                slot.release()
            raise
        self._queue.enqueue(call[1], slot)
        self.done.append((due_ns, self._now_ns()))
