"""Committed calls/s through the store API on PostgreSQL, beside raw inserts on one connection.

The raw loops write the same rows as the superuser (no row security), 100 calls a transaction, no
hashing, no guards, no head: one writes table by table with unnest, one all tables in one
statement with unnest, one table by table with multi-row VALUES. The fastest is the yardstick. A
transaction carries the outcomes of the calls before, as a loaded queue does. Same cluster, same
durability, slices take turns. Server and clients share the machine's cores in both cases.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import asyncpg
import bench_cluster
import store_calls
import uvloop
from bench_cluster import postgres_server
from store_calls import HASH, TENANT, intent, outcome

import storage
from sidecar.clock import Clock
from storage.records import CallFactsRow, Entry, OpenIntentRow, ReceiptRow

CALLERS = 256
BATCH_CALLS = 100
NUMBERS = {"seq", "ts_us", "http_status"}
SHORT = ReceiptRow._fields[:7] + ReceiptRow._fields[25:]
TABLES = (
    ("receipts", ReceiptRow._fields),
    ("receipts", SHORT),
    ("call_facts", CallFactsRow._fields),
    ("open_intent", OpenIntentRow._fields),
)
KEY = ("tenant_id", "call_id")
STYLES = ("tables", "one_statement", "values")
Rows = Sequence[Sequence[Any]]


def _arrays(columns: Sequence[str], first: int) -> str:
    kinds = ("bigint" if name in NUMBERS else "text" for name in columns)
    return ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(kinds, first))


def _insert(table: str, columns: Sequence[str], first: int = 1) -> str:
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT * FROM unnest({_arrays(columns, first)})"


def _delete(first: int = 1) -> str:
    return (
        f"DELETE FROM open_intent USING unnest({_arrays(KEY, first)}) AS given (t, c) "
        "WHERE open_intent.tenant_id = given.t AND open_intent.call_id = given.c"
    )


def _values(table: str, columns: Sequence[str], count: int) -> str:
    width = len(columns)
    rows = (
        "(" + ", ".join(f"${row * width + n + 1}" for n in range(width)) + ")"
        for row in range(count)
    )
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join(rows)}"


class RawConnection:
    """The same rows by hand, on a connection of its own."""

    def __init__(self, connection: Any, style: str) -> None:
        self._connection = connection
        self._style = style
        self._clock = Clock()
        self._seq = 0
        self._before: list[Entry] = []

    async def prepare(self) -> None:
        """Statements are prepared once, as a raw loop would."""
        prepare = self._connection.prepare
        self._inserts = [await prepare(_insert(*table)) for table in TABLES]
        self._delete = await prepare(_delete())
        parts, first = [], 1
        for number, (table, columns) in enumerate(TABLES):
            parts.append(f"s{number} AS ({_insert(table, columns, first)})")
            first += len(columns)
        self._all = await prepare(f"WITH {', '.join(parts)} {_delete(first)}")
        self._values = [await prepare(_values(*table, BATCH_CALLS)) for table in TABLES]

    async def run(self, seconds: float) -> float:
        """Calls/s."""
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            await self._batch()
            done += BATCH_CALLS
        return done / (time.perf_counter() - started)

    async def _batch(self) -> None:
        clock = self._clock
        intents = [intent(clock) for _ in range(BATCH_CALLS)]
        outcomes, self._before = (
            self._before,
            [outcome(clock, str(entry.receipt.call_id)) for entry in intents],
        )
        whole = [
            entry.receipt._replace(seq=self._seq + n, receipt_hash=HASH)
            for n, entry in enumerate(intents, 1)
        ]
        facts = [
            entry.facts._replace(seq=self._seq + n)
            for n, entry in enumerate(intents, 1)
            if entry.facts is not None
        ]
        self._seq += len(whole)
        short = []
        for n, entry in enumerate(outcomes, 1):
            row = entry.receipt._replace(seq=self._seq + n, receipt_hash=HASH)
            short.append(row[:7] + row[25:])
        self._seq += len(short)
        opens = [entry.opens for entry in intents if entry.opens is not None]
        closed = [(TENANT, entry.closes) for entry in outcomes]
        await self._write([whole, short, facts, opens], closed)

    async def _write(self, tables: list[Rows], closed: Rows) -> None:
        if not closed:  # the first transaction: nothing ended yet
            async with self._connection.transaction():
                for insert, rows in zip(self._inserts, tables, strict=True):
                    if rows:
                        await insert.fetch(*_columns(rows))
        elif self._style == "one_statement":
            columns = [column for rows in [*tables, closed] for column in _columns(rows)]
            await self._all.fetch(*columns)
        else:
            async with self._connection.transaction():
                for number, rows in enumerate(tables):
                    if self._style == "values":
                        await self._values[number].fetch(*(value for row in rows for value in row))
                    else:
                        await self._inserts[number].fetch(*_columns(rows))
                await self._delete.fetch(*_columns(closed))


def _columns(rows: Rows) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _measure(dsn: str, seconds: float, rounds: int) -> dict[str, Any]:
    clock = Clock()
    found = await bench_cluster.settings(dsn)
    raws: dict[str, RawConnection] = {}
    connections = []
    store = await storage.open_store(
        await postgres_server.new_database(dsn), now_us=clock.now_us, node_id="node"
    )
    try:
        for style in STYLES:
            url = await postgres_server.new_database(dsn)
            await (await storage.open_store(url, now_us=clock.now_us, node_id="node")).close()
            as_superuser = f"{dsn.rpartition('/')[0]}/{url.rpartition('/')[2]}"
            connections.append(await asyncpg.connect(as_superuser))
            raws[style] = RawConnection(connections[-1], style)
            await raws[style].prepare()
        seen = await store_calls.alternate(
            {
                **{style: lambda raw=raw: raw.run(seconds) for style, raw in raws.items()},
                "api": lambda: store_calls.drive(store, clock, CALLERS, seconds),
            },
            rounds,
        )
    finally:
        await store.close()
        for connection in connections:
            await connection.close()
    best = max(STYLES, key=lambda style: median(seen[style]))
    return {
        "server": found,
        "callers": CALLERS,
        **{f"raw_{style}_calls_per_s": round(median(seen[style])) for style in STYLES},
        "yardstick": best,
        "api_calls_per_s": round(median(seen["api"])),
        "ratio_to_raw_insert": store_calls.ratio(seen["api"], seen[best]),
        "ratio_spread": store_calls.spread(seen["api"], seen[best]),
    }


def run(seconds: float, rounds: int) -> dict[str, Any]:
    """Calls/s, and the ratio to the fastest of the raw loops."""
    with bench_cluster.durable_cluster() as dsn:
        return dict(uvloop.run(_measure(dsn, seconds, rounds)))
