"""Committed calls/s of the store API at 1, 32 and 256 waiting callers, beside a raw loop.

A call is what the product writes for one: an intent (receipt, facts, open intent) and, later,
its outcome (receipt, the intent closed). The raw loop writes the same rows with sqlite3, 100
calls a transaction, no asyncio, no hashing; both on the same disk, one after the other.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.records import CallFactsRow, Entry, OpenIntentRow, ReceiptRow, Recorded
from storage.statements import load_statements
from storage.write_queue import WriteQueue

ARGUMENTS = '{"labels":["ops","night"],"number":1207,"owner":"acme","repo":"web"}' + " " * 200
FACTS = '{"http":{"method":"POST","path":"/","source_ip":"127.0.0.1"},"tool":{"mutates":true}}'
HASH = "ab" * 32
CALLERS = (1, 32, 256)


def intent(clock: Clock) -> Entry:
    call_id = clock.new_id()
    receipt = ReceiptRow(
        "default", 0, "intent", call_id, call_id, clock.now_us(), "agent", None, None, None,
        "tools", "tools/tool_42", "tools/call", None, "trusted_internal_unsigned", "allow",
        "enforce", "bench/r42", HASH[:32], HASH[:32], None, None, None, HASH, HASH, None, None, "",
    )  # fmt: skip
    return Entry(
        receipt,
        facts=CallFactsRow("default", 0, HASH[:32], ARGUMENTS, FACTS),
        opens=OpenIntentRow("default", call_id, "sqlite", "boot"),
    )


def outcome(clock: Clock, call_id: str) -> Entry:
    receipt = ReceiptRow(
        "default", 0, "outcome", clock.new_id(), call_id, clock.now_us(), "agent",
        *([None] * 18), "completed", 200, "",
    )  # fmt: skip
    return Entry(receipt, closes=call_id)


async def through_the_api(folder: Path, callers: int, seconds: float) -> float:
    clock = Clock()
    store = await storage.open_store(f"sqlite:///{folder}/api{callers}.db", now_us=clock.now_us)
    queue = WriteQueue(store, seal, capacity=4096, wait_s=10, monotonic_ns=clock.monotonic_ns)
    done = 0
    until = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < until:
            slot = queue.reserve()
            entry = intent(clock)
            answer = await queue.submit(entry)
            if not isinstance(answer, Recorded):
                raise RuntimeError(f"not recorded: {answer}")
            queue.enqueue(outcome(clock, str(entry.receipt.call_id)), slot)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    await queue.drain(10)
    took = time.perf_counter() - started
    await queue.close()
    await store.close()
    return done / took


def raw_loop(folder: Path, seconds: float) -> float:
    """The same rows by hand: executemany, 100 calls a transaction, FULL, checkpoints off."""
    clock = Clock()
    path = folder / "raw.db"

    async def migrate() -> None:
        store = await storage.open_store(f"sqlite:///{path}", now_us=clock.now_us)
        await store.close()

    asyncio.run(migrate())
    sql = load_statements("sqlite")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA wal_autocheckpoint=0")
    done, seq, batches = 0, 0, 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        intents = [intent(clock) for _ in range(100)]
        outcomes = [outcome(clock, str(entry.receipt.call_id)) for entry in intents]
        rows = [
            entry.receipt._replace(seq=seq + n, receipt_hash=HASH)
            for n, entry in enumerate(intents + outcomes, 1)
        ]
        facts = [entry.facts._replace(seq=seq + n) for n, entry in enumerate(intents, 1)]  # type: ignore[union-attr]
        seq += len(rows)
        db.execute("BEGIN IMMEDIATE")
        db.executemany(sql["insert_receipt"], rows[:100])
        db.executemany(sql["insert_short_receipt"], [row[:7] + row[25:] for row in rows[100:]])
        db.executemany(sql["insert_call_facts"], facts)
        db.executemany(sql["insert_open_intent"], [entry.opens for entry in intents])
        db.executemany(sql["delete_open_intent"], [("default", entry.closes) for entry in outcomes])
        db.execute("COMMIT")
        batches += 1
        if batches % 10 == 0:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        done += 100
    took = time.perf_counter() - started
    db.close()
    return done / took


def run(seconds: float) -> dict[str, Any]:
    """Calls/s, and each as a ratio of the raw loop."""
    with tempfile.TemporaryDirectory(prefix="aegis-store-") as name:
        folder = Path(name)
        raw = raw_loop(folder, seconds)
        figures: dict[str, Any] = {"raw_loop_calls_per_s": round(raw)}
        for callers in CALLERS:
            rate = uvloop.run(through_the_api(folder, callers, seconds))
            figures[f"api_calls_per_s_{callers}"] = round(rate)
            figures[f"ratio_to_raw_loop_{callers}"] = round(rate / raw, 3)
        bytes_used = sum(path.stat().st_size for path in folder.glob("raw.db"))
        figures["bytes_per_call"] = round(bytes_used / (raw * seconds))
    return figures
