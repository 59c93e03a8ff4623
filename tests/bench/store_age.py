"""An empty store beside one of millions of receipts, driven in slices that take turns (SQLite).

The full store is filled through the store itself, in its largest batches, with its checkpoints; so
every chain in it is real. An empty store is a fresh file for every slice.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import store_calls
import uvloop

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.records import Entry, Recorded
from storage.sql_store import SqlStore

RECEIPTS = 5_000_000
CALLERS = 256
BATCH_CALLS = 512


async def fill(store: SqlStore, clock: Clock, receipts: int) -> float:
    """Calls until so many receipts are there, each batch with the outcomes of the one before;
    gives receipts/s."""
    started = time.perf_counter()
    written = 0
    outcomes: list[Entry] = []
    while written < receipts:
        calls = [store_calls.call(clock) for _ in range(BATCH_CALLS)]
        entries = [begins for begins, _ in calls] + outcomes
        outcomes = [ends for _, ends in calls]
        answers = await store.record(entries, seal)
        if not all(isinstance(answer, Recorded) for answer in answers):
            raise RuntimeError("a batch was not recorded as a whole")
        await store.after_commit()
        written += len(entries)
    answers = await store.record(outcomes, seal)
    await store.after_commit()
    return written / (time.perf_counter() - started)


async def _measure(folder: Path, receipts: int, seconds: float, rounds: int) -> dict[str, Any]:
    clock = Clock()
    path = folder / "full.db"
    full = await storage.open_store(f"sqlite:///{path}", now_us=clock.now_us)
    numbers = itertools.count()

    async def empty() -> float:
        fresh = folder / f"empty-{next(numbers)}.db"
        store = await storage.open_store(f"sqlite:///{fresh}", now_us=clock.now_us)
        try:
            return await store_calls.drive(store, clock, CALLERS, seconds)
        finally:
            await store.close()
            fresh.unlink()

    try:
        filled_per_s = await fill(full, clock, receipts)
        held = (await full.head(store_calls.TENANT)).seq
        seen = await store_calls.alternate(
            {"empty": empty, "full": lambda: store_calls.drive(full, clock, CALLERS, seconds)},
            rounds,
        )
    finally:
        await full.close()
    return {
        "receipts": held,
        "filled_receipts_per_s": round(filled_per_s),
        "file_mb": round(path.stat().st_size / 1e6),
        "empty_calls_per_s": round(median(seen["empty"])),
        "full_calls_per_s": round(median(seen["full"])),
        "ratio_full_to_empty": store_calls.ratio(seen["full"], seen["empty"]),
        "ratio_spread": store_calls.spread(seen["full"], seen["empty"]),
    }


def run(seconds: float, rounds: int, receipts: int = RECEIPTS) -> dict[str, Any]:
    """Calls/s on both, and the median of the rounds' ratios."""
    with tempfile.TemporaryDirectory(prefix="aegis-age-") as name:
        return dict(uvloop.run(_measure(Path(name), receipts, seconds, rounds)))
