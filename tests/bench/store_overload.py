"""The store API offered four times what it carries, on a schedule, on both engines.

What it carries is measured in slices that take turns with the overloaded ones: the same calls, as
many waiting as the queue takes. A call that finds no place is refused at once, as the recorder
refuses it (the place of its outcome is reserved first); its time counts from when it was due, so
that a process too busy to refuse does not look quick. The schedule runs in the store's own
process and takes its share of the interpreter: that is part of being overloaded.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from statistics import median
from typing import Any

import bench_cluster
import store_calls
import uvloop
from bench_cluster import postgres_server

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.errors import QueueFull, QueueTimeout
from storage.open_loop import quantile
from storage.records import Entry, Recorded
from storage.sql_store import SqlStore
from storage.write_queue import Slot, WriteQueue

FACTOR = 4.0
#: The defaults of `limits.queue` and `limits.queue_wait`.
CAPACITY = 4096
WAIT_S = 5.0
CALLERS = 1024
TICK_S = 0.001


class Offered:
    """Calls let go on a schedule; times in seconds from when each was due."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self._clock = clock
        self._queue = WriteQueue(
            store, seal, capacity=CAPACITY, wait_s=WAIT_S, monotonic_ns=clock.monotonic_ns
        )
        self._spare: deque[Entry] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self.offered = 0
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.committed = 0

    async def run(self, rate: float, seconds: float) -> tuple[float, float]:
        """Lets calls go for so long; gives calls/s offered and committed in that time."""
        self._spare.extend(store_calls.intent(self._clock) for _ in range(2 * CAPACITY))
        try:
            with store_calls.frozen():
                started = time.perf_counter()
                while (at := time.perf_counter() - started) < seconds:
                    until = int(at * rate)
                    for number in range(self.offered, until):
                        self._let_go(started + number / rate)
                    self.offered = max(self.offered, until)
                    await asyncio.sleep(TICK_S)
                took, committed = time.perf_counter() - started, self.committed
            if self._running:
                await asyncio.wait(self._running)
            for task in self._running:
                task.result()
            if await self._queue.drain(30):
                raise RuntimeError("not everything was recorded in 30 s")
        finally:
            await self._queue.close()
        return self.offered / took, committed / took

    def _let_go(self, due: float) -> None:
        try:
            slot = self._queue.reserve()
        except QueueFull:
            self.refused.append(time.perf_counter() - due)
            return
        entry = self._spare.popleft() if self._spare else store_calls.intent(self._clock)
        task = asyncio.get_running_loop().create_task(self._commit(entry, slot, due))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.exception() is None:
            self._running.discard(task)

    async def _commit(self, entry: Entry, slot: Slot, due: float) -> None:
        try:
            answer = await self._queue.submit(entry)
        except (QueueFull, QueueTimeout):
            self.refused.append(time.perf_counter() - due)
            slot.release()
            return
        if not isinstance(answer, Recorded):
            raise RuntimeError(f"not recorded: {answer}")
        self.answered.append(time.perf_counter() - due)
        self.committed += 1
        self._queue.enqueue(store_calls.outcome(self._clock, str(entry.receipt.call_id)), slot)


async def _measure(url: str, seconds: float, rounds: int) -> dict[str, Any]:
    clock = Clock()
    store = await storage.open_store(url, now_us=clock.now_us, node_id="node")
    answered: list[float] = []
    refused: list[float] = []
    offered_to_ceiling: list[float] = []
    ceilings: list[float] = []

    async def ceiling() -> float:
        ceilings.append(await store_calls.drive(store, clock, CALLERS, seconds))
        return ceilings[-1]

    async def overloaded() -> float:
        load = Offered(store, clock)
        offered, committed = await load.run(FACTOR * ceilings[-1], seconds)
        offered_to_ceiling.append(offered / ceilings[-1])
        answered.extend(load.answered)
        refused.extend(load.refused)
        return committed

    try:
        await ceiling()
        seen = await store_calls.alternate({"ceiling": ceiling, "overloaded": overloaded}, rounds)
    finally:
        await store.close()
    refused.sort()
    answered.sort()
    return {
        "ceiling_calls_per_s": round(median(seen["ceiling"])),
        "overloaded_calls_per_s": round(median(seen["overloaded"])),
        "offered_to_ceiling": round(median(offered_to_ceiling), 2),
        "kept_ratio": store_calls.ratio(seen["overloaded"], seen["ceiling"]),
        "kept_ratio_spread": store_calls.spread(seen["overloaded"], seen["ceiling"]),
        "refused": len(refused),
        "refused_p50_ms": round(quantile(refused, 0.5) * 1e3, 2),
        "refused_p99_ms": round(quantile(refused, 0.99) * 1e3, 2),
        "answered_p50_ms": round(quantile(answered, 0.5) * 1e3, 1),
        "answered_p99_ms": round(quantile(answered, 0.99) * 1e3, 1),
    }


def run(seconds: float, rounds: int) -> dict[str, Any]:
    """What is kept of the ceiling, and how long a refusal takes, by engine."""
    with tempfile.TemporaryDirectory(prefix="aegis-overload-") as folder:
        figures = {"sqlite": uvloop.run(_measure(f"sqlite:///{folder}/a.db", seconds, rounds))}
    with bench_cluster.durable_cluster() as dsn:
        url = uvloop.run(postgres_server.new_database(dsn))
        figures["postgres"] = uvloop.run(_measure(url, seconds, rounds))
    return figures
