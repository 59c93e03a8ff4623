"""Schema drift: what was done to a store's tables by hand is found and named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from storage_sqlite_setup import opened, url_of

from storage import open_reader
from storage.driver import Row
from storage.errors import StoreError
from storage.migrate import read_migrations
from storage.schema_check import (
    SchemaDrift,
    check_reader,
    check_schema,
    differences,
    expected_schema,
)
from storage.statements import load_statements

SQL = load_statements("sqlite")
SHIPPED = read_migrations("sqlite")


def changed(path: Path, *statements: str) -> list[Row]:
    """The schema of a store after something was done to it."""
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA writable_schema = ON")
    for statement in statements:
        raw.execute(statement)
    raw.commit()
    found = raw.execute(SQL["schema_objects"]).fetchall()
    raw.close()
    return found


async def a_store(folder: Path) -> Path:
    async with opened(folder / "store.db"):
        pass
    return folder / "store.db"


async def test_a_store_as_the_migrations_make_it_has_no_drift(tmp_path: Path) -> None:
    path = await a_store(tmp_path)
    check_schema(changed(path), expected_schema(SQL, SHIPPED))
    # What an engine keeps for itself is no drift.
    check_schema(changed(path, "ANALYZE"), expected_schema(SQL, SHIPPED))


@pytest.mark.parametrize(("statement", "said"), [
    ("DROP INDEX receipts_call_begins", "index receipts_call_begins on receipts is missing: "
     "CREATE UNIQUE INDEX receipts_call_begins ON receipts(tenant_id,call_id)"),
    ("CREATE INDEX extra ON receipts (agent_id)", "index extra on receipts is unknown"),
    ("CREATE TABLE cats (name TEXT)", "table cats is unknown"),
    ("DROP TABLE run_head", "table run_head is missing"),
    ("ALTER TABLE receipts ADD COLUMN mood TEXT", "column receipts.mood is unknown"),
    ("ALTER TABLE call_facts DROP COLUMN arguments", "column call_facts.arguments is missing"),
    ("ALTER TABLE call_facts RENAME COLUMN salt TO pepper", "column call_facts.pepper is unknown; "
     "column call_facts.salt is missing"),
    ("CREATE TRIGGER forget AFTER INSERT ON receipts BEGIN DELETE FROM call_facts; END",
     "trigger forget on receipts is unknown"),
    ("CREATE VIEW v AS SELECT 1", "view v on v is unknown"),
    ("UPDATE sqlite_master SET sql = replace(sql, 'epoch BIGINT NOT NULL', 'epoch BIGINT') "
     "WHERE name = 'chain_head'", "column chain_head.epoch is BIGINT, not BIGINT NOT NULL"),
    ("UPDATE sqlite_master SET sql = replace(sql, 'CHECK (seq >= 0)', '') "
     "WHERE name = 'chain_head'", "table chain_head is defined otherwise: CREATE TABLE"),
    ("UPDATE sqlite_master SET sql = replace(sql, '''refusal''', '''approval''') "
     "WHERE name = 'receipts_call_begins'",
     "WHERE kind = 'intent' OR kind = 'approval', not CREATE UNIQUE INDEX"),
])  # fmt: skip
async def test_every_drift_is_named(tmp_path: Path, statement: str, said: str) -> None:
    path = await a_store(tmp_path)
    changed(path, statement)
    actual = changed(path)  # a new connection reads the schema anew
    with pytest.raises(SchemaDrift) as caught:
        check_schema(actual, expected_schema(SQL, SHIPPED))
    assert said in str(caught.value)
    assert len(differences(actual, expected_schema(SQL, SHIPPED))) <= 2
    assert isinstance(caught.value, StoreError) and caught.value.code == "schema_drift"


async def test_blanks_and_comments_are_no_drift(tmp_path: Path) -> None:
    path = await a_store(tmp_path)
    changed(
        path,
        "UPDATE sqlite_master SET sql = replace(sql, '(seq >= 0)', '( seq  >= 0 ) /* same */') "
        "|| ' ' WHERE name = 'chain_head'",
    )
    check_schema(changed(path), expected_schema(SQL, SHIPPED))


async def test_a_reader_compares_with_the_migrations_that_were_applied(tmp_path: Path) -> None:
    path = await a_store(tmp_path)
    reader = await open_reader(url_of(path))
    await check_reader(reader)
    await reader.close()
    changed(path, "DROP INDEX receipts_call_ends")
    reader = await open_reader(url_of(path))
    with pytest.raises(SchemaDrift):
        await check_reader(reader)
    await reader.close()
