"""Bytes on disk per call, by table and index, on both engines.

A call is an intent with 300 bytes of arguments and its outcome, committed 16 calls at a time, each
batch with the outcomes of the one before. SQLite: pages of the file, as its own `dbstat` counts
them after a checkpoint. PostgreSQL: the relations' sizes with their maps and long values, as they
are found; a server's write-ahead log is shared by all databases and not counted.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import asyncpg
import bench_cluster
import store_calls
import uvloop
from bench_cluster import postgres_server

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.records import Entry, Recorded

CALLS = 20_000
BATCH_CALLS = 16
#: What belongs to the file or the schema, not to calls, goes under this name.
REST = "(schema)"


async def _fill(url: str, calls: int) -> None:
    clock = Clock()
    store = await storage.open_store(url, now_us=clock.now_us, node_id="node")
    try:
        outcomes: list[Entry] = []
        for at in range(0, calls + BATCH_CALLS, BATCH_CALLS):
            count = max(0, min(BATCH_CALLS, calls - at))
            new = [store_calls.call(clock) for _ in range(count)]
            entries = [begins for begins, _ in new] + outcomes
            outcomes = [ends for _, ends in new]
            answers = await store.record(entries, seal)
            if not all(isinstance(answer, Recorded) for answer in answers):
                raise RuntimeError("a batch was not recorded as a whole")
            await store.after_commit()
    finally:
        await store.close()


def sqlite_bytes(path: Path) -> dict[str, int]:
    """Bytes of each table and index of a closed store; they add up to the file's size."""
    with sqlite3.connect(path) as db:
        tables = dict(db.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index'"))
        pages = db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall()
        free = db.execute("PRAGMA freelist_count").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    known: dict[str, int] = {}
    for name, count in pages:
        known[_named(name, tables)] = count
    known[REST] = known.get(REST, 0) + free * size
    return known


def _named(name: str, tables: dict[str, str]) -> str:
    """An index that only stands for the primary key is called the table's key."""
    if name.startswith("sqlite_autoindex_"):
        return f"{tables[name]} (key)"
    return REST if name.startswith("sqlite_") else name


async def postgres_bytes(dsn: str) -> dict[str, int]:
    """Bytes of each table (with its maps and long values) and index."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT c.relname, t.relname AS owner, i.indisprimary, pg_table_size(c.oid) AS bytes "
            "FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid "
            "LEFT JOIN pg_class t ON t.oid = i.indrelid "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')"
        )
        total = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
    finally:
        await connection.close()
    known = {
        f"{row['owner']} (key)" if row["indisprimary"] else row["relname"]: row["bytes"]
        for row in rows
    }
    if sum(known.values()) != total:
        raise RuntimeError(f"{sum(known.values())} bytes of {total} have a name")
    return known


def per_call(known: dict[str, int], calls: int) -> dict[str, Any]:
    """Bytes a call by name, the largest first; what is less than one byte together."""
    large = {name: round(size / calls, 1) for name, size in known.items() if size >= calls}
    small = sum(size for size in known.values() if size < calls)
    ordered = dict(sorted(large.items(), key=lambda one: -one[1]))
    return {"total": round(sum(known.values()) / calls), "by_name": ordered,
            "all_others": round(small / calls, 1)}  # fmt: skip


def sqlite(calls: int) -> dict[str, Any]:
    """Bytes a call in a SQLite file."""
    with tempfile.TemporaryDirectory(prefix="aegis-bytes-") as folder:
        path = Path(folder) / "aegis.db"
        uvloop.run(_fill(f"sqlite:///{path}", calls))
        known = sqlite_bytes(path)
        if sum(known.values()) != path.stat().st_size:
            raise RuntimeError(f"{sum(known.values())} bytes of {path.stat().st_size} have a name")
    return per_call(known, calls)


def postgres(dsn: str, calls: int) -> dict[str, Any]:
    """Bytes a call in a PostgreSQL database."""
    url = uvloop.run(postgres_server.new_database(dsn))
    uvloop.run(_fill(url, calls))
    return per_call(uvloop.run(postgres_bytes(url)), calls)


def run(calls: int = CALLS) -> dict[str, Any]:
    """Bytes a call, by table and index, on both engines."""
    figures: dict[str, Any] = {
        "calls": calls,
        "arguments_bytes": store_calls.ARGUMENTS_BYTES,
        "facts_bytes": len(store_calls.FACTS),
        "sqlite": sqlite(calls),
    }
    with bench_cluster.durable_cluster() as dsn:
        figures["postgres"] = postgres(dsn, calls)
    return figures
