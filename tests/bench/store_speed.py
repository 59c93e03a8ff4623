"""Committed calls/s of the store API at 1, 32 and 256 waiting callers, beside a raw loop.

The raw loop writes the same rows with sqlite3, 100 calls a transaction, no asyncio, no hashing,
on the same disk. Slices take turns; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import store_calls
import uvloop
from store_calls import HASH, TENANT, intent, outcome

import storage
from sidecar.clock import Clock
from storage.statements import load_statements

CALLERS = (1, 32, 256)
BATCH_CALLS = 100
BATCHES_PER_CHECKPOINT = 10


class RawLoop:
    """The same rows by hand: executemany, 100 calls a transaction, FULL, checkpoints by hand."""

    def __init__(self, path: Path) -> None:
        """`path` holds an empty store."""
        self._clock = Clock()
        self._sql = load_statements("sqlite")
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        self._seq = self._batches = 0
        self.calls = 0

    async def run(self, seconds: float) -> float:
        """Calls/s."""
        before = self.calls
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            self._batch()
        return (self.calls - before) / (time.perf_counter() - started)

    def _batch(self) -> None:
        clock, db, sql = self._clock, self._db, self._sql
        intents = [intent(clock) for _ in range(BATCH_CALLS)]
        outcomes = [outcome(clock, str(entry.receipt.call_id)) for entry in intents]
        rows = [
            entry.receipt._replace(seq=self._seq + n, receipt_hash=HASH)
            for n, entry in enumerate(intents + outcomes, 1)
        ]
        facts = [
            entry.facts._replace(seq=self._seq + n)
            for n, entry in enumerate(intents, 1)
            if entry.facts is not None
        ]
        self._seq += len(rows)
        db.execute("BEGIN IMMEDIATE")
        db.executemany(sql["insert_receipt"], rows[:BATCH_CALLS])
        short = [row[:7] + row[25:] for row in rows[BATCH_CALLS:]]
        db.executemany(sql["insert_short_receipt"], short)
        db.executemany(sql["insert_call_facts"], facts)
        db.executemany(sql["insert_open_intent"], [entry.opens for entry in intents])
        closed = [(TENANT, entry.closes) for entry in outcomes]
        db.executemany(sql["delete_open_intent"], closed)
        db.execute("COMMIT")
        self._batches += 1
        if self._batches % BATCHES_PER_CHECKPOINT == 0:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self.calls += BATCH_CALLS

    def close(self) -> None:
        self._db.close()


async def _measure(folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    clock = Clock()
    store = await storage.open_store(f"sqlite:///{folder}/raw.db", now_us=clock.now_us)
    await store.close()
    raw = RawLoop(folder / "raw.db")
    store = await storage.open_store(f"sqlite:///{folder}/api.db", now_us=clock.now_us)
    try:
        seen = await store_calls.alternate(
            {
                "raw": lambda: raw.run(seconds),
                **{
                    str(callers): lambda callers=callers: store_calls.drive(
                        store, clock, callers, seconds
                    )
                    for callers in CALLERS
                },
            },
            rounds,
        )
    finally:
        await store.close()
        raw.close()
    figures: dict[str, Any] = {"raw_loop_calls_per_s": round(median(seen["raw"]))}
    for callers in map(str, CALLERS):
        figures[f"api_calls_per_s_{callers}"] = round(median(seen[callers]))
        figures[f"ratio_to_raw_loop_{callers}"] = store_calls.ratio(seen[callers], seen["raw"])
    figures["bytes_per_call"] = round((folder / "raw.db").stat().st_size / raw.calls)
    return figures


def run(seconds: float, rounds: int = 3) -> dict[str, Any]:
    """Calls/s, and each as a ratio of the raw loop."""
    with tempfile.TemporaryDirectory(prefix="aegis-store-") as name:
        return dict(uvloop.run(_measure(Path(name), seconds, rounds)))
