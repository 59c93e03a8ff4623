"""The slow end of commits at moderate load, checkpoints included, beside the disk's own (SQLite).

Two kinds of slices take turns: commits of batches of 16 calls one after the other, each with its
upkeep (storage/commit_times.py), and calls on a schedule at half of what the store carries, whose
batches are timed from their taking to when the next could be taken. Between them 4 KiB are appended
and synced, over and over: the disk's own slow end in the same seconds.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import store_calls
import uvloop

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.commit_times import time_commits
from storage.open_loop import offer, quantile
from storage.sql_store import SqlStore
from storage.write_queue import WriteQueue

BATCH_CALLS = 16
HALF = 0.5
SYNC_SHARE = 0.5
TIMES_MEDIAN = 4.0
BEYOND_SYNC_MS = 1.0


def syncs_ms(folder: Path, seconds: float) -> list[float]:
    """Appends of 4 KiB, each synced, for so long."""
    took: list[float] = []
    path = folder / "fdatasync"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        os.write(handle, b"x" * 4096)
        started = time.perf_counter()
        os.fdatasync(handle)
        took.append((time.perf_counter() - started) * 1e3)
    os.close(handle)
    path.unlink()
    return took


class _Timed:
    """A store whose commits, upkeep included, leave their times."""

    def __init__(self, store: SqlStore, took_ms: list[float]) -> None:
        self._store = store
        self._took_ms = took_ms
        self.probe = store.probe
        self._started = 0.0

    async def record(self, entries: Any, seal_them: Any) -> Any:
        self._started = time.perf_counter()
        return await self._store.record(entries, seal_them)

    async def after_commit(self) -> None:
        await self._store.after_commit()
        self._took_ms.append((time.perf_counter() - self._started) * 1e3)


async def _measure(folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    clock = Clock()
    store = await storage.open_store(f"sqlite:///{folder}/aegis.db", now_us=clock.now_us)
    ceiling = await store_calls.drive(store, clock, 256, seconds)
    sync: list[float] = []
    batches: list[float] = []
    scheduled: list[float] = []

    async def syncs() -> float:
        sync.extend(syncs_ms(folder, SYNC_SHARE * seconds))
        return 0.0

    async def back_to_back() -> float:
        timed = _Timed(store, batches)
        now_ns = clock.monotonic_ns
        await time_commits(
            timed, seal, lambda: store_calls.call(clock), now_ns, seconds, (BATCH_CALLS,)
        )
        return 0.0

    async def on_schedule() -> float:
        rate = HALF * ceiling
        calls = [store_calls.call(clock) for _ in range(int(rate * seconds))]
        queue = WriteQueue(
            store, seal, capacity=4096, wait_s=30, monotonic_ns=clock.monotonic_ns,
            on_batch=lambda entries, took_s: scheduled.append(took_s * 1e3),
        )  # fmt: skip
        try:
            with store_calls.frozen():
                await offer(queue, calls, rate, clock.monotonic_ns)
            await queue.drain(30)
        finally:
            await queue.close()
        return 0.0

    try:
        slices = {"sync": syncs, "batches": back_to_back, "schedule": on_schedule}
        await store_calls.alternate(slices, rounds)
        checkpoints = store.facts().checkpoints_total
    finally:
        await store.close()
    disk = sorted(sync)
    figures: dict[str, Any] = {
        "fdatasync_p50_ms": round(quantile(disk, 0.5), 3),
        "fdatasync_p99_ms": round(quantile(disk, 0.99), 3),
        "checkpoints": checkpoints,
    }
    for name, took in ((f"batch_of_{BATCH_CALLS}", batches), ("half_load", scheduled)):
        figures[name] = tail(sorted(took), figures["fdatasync_p99_ms"])
    return figures


def tail(took_ms: list[float], sync_p99_ms: float) -> dict[str, Any]:
    """Median, 99th percentile, and the line it is held to."""
    p50, p99 = quantile(took_ms, 0.5), quantile(took_ms, 0.99)
    line = max(TIMES_MEDIAN * p50, sync_p99_ms + BEYOND_SYNC_MS)
    return {
        "commits": len(took_ms),
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "max_ms": round(took_ms[-1], 3),
        "line_ms": round(line, 3),
        "p99_to_line": round(p99 / line, 3),
    }


def run(seconds: float, rounds: int) -> dict[str, Any]:
    """Median and 99th percentile of commits, and of the disk's syncs."""
    with tempfile.TemporaryDirectory(prefix="aegis-tail-") as name:
        return dict(uvloop.run(_measure(Path(name), seconds, rounds)))
