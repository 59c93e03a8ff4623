"""A PostgreSQL whose commits are durable, for benchmarks: fsync and synchronous_commit on.

The server of the tests runs without fsync; figures from it would flatter. TEST_POSTGRES_DSN, if
set, names the server to measure instead, with the settings it has: they stand in the figures.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import postgres_server

SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers")


@contextmanager
def durable_cluster() -> Iterator[str]:
    """The DSN of a role that may create databases."""
    given = os.environ.get("TEST_POSTGRES_DSN")
    if given:
        yield given
        return
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start()
        yield cluster.dsn()


async def settings(dsn: str) -> dict[str, Any]:
    """What decides how much a commit costs there; raises if commits are not durable."""
    connection = await asyncpg.connect(dsn)
    try:
        found = {name: await connection.fetchval(f"SHOW {name}") for name in SETTINGS}
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    if found["fsync"] != "on" or found["synchronous_commit"] != "on":
        raise RuntimeError(f"commits of this server are not durable: {found}")
    return {"version": version, **found}
