"""Writes anew what a server's schema must be, after a migration was added.

    python tests/expected_schema.py

An empty database of a real PostgreSQL is migrated and described; the answer is kept in
storage/migrations/schema.postgres.json, whose changes are to be read like a migration's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import asyncpg
import postgres_server

from storage.known_heads import check_tail
from storage.migrate import migrate, read_migrations
from storage.postgres import PostgresDriver
from storage.schema_check import SERVER_SCHEMA
from storage.statements import load_statements

SQL = load_statements("postgres")


def text_of(rows: list[list[object]]) -> str:
    """The rows as they are kept: in one order, a line each."""
    lines = sorted(json.dumps(row, ensure_ascii=True) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n"


async def described(url: str) -> list[list[object]]:
    """All tables of a fresh database after all migrations, as `server_schema` describes them."""
    driver = PostgresDriver(
        url, SQL, verify_tail=partial(check_tail, SQL), monotonic_ns=time.monotonic_ns
    )
    await driver.open()
    try:
        await migrate(driver, SQL, read_migrations("postgres"), lambda: 1)
    finally:
        await driver.close()
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetchval(
            "SELECT json_agg(tablename)::text FROM pg_tables WHERE schemaname = current_schema()"
        )
        return [list(row) for row in await connection.fetch(SQL["server_schema"], tables)]
    finally:
        await connection.close()


async def main() -> None:
    with postgres_server.server() as dsn:
        rows = await described(await postgres_server.new_database(dsn))
    SERVER_SCHEMA.write_text(text_of(rows), encoding="utf-8")
    print(f"{SERVER_SCHEMA}: {len(rows)} lines")


if __name__ == "__main__":
    asyncio.run(main())
