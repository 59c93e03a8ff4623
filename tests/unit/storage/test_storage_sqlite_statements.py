"""SQL texts: placeholders that cannot swap values, and columns in the order of the records."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest
from storage_sqlite_setup import opened

from storage.records import CallFactsRow, HeadRow, OpenIntentRow, ReceiptRow
from storage.statements import SQL_FOLDER, BadStatement, for_engine, load_statements

TABLES = {
    "chain_head": HeadRow,
    "receipts": ReceiptRow,
    "call_facts": CallFactsRow,
    "open_intent": OpenIntentRow,
}


class ShortReceipt(NamedTuple):
    """The columns of insert_short_receipt."""

    tenant_id: str
    seq: int
    kind: str
    event_id: str
    call_id: str
    ts_us: int
    agent_id: str
    outcome: str
    http_status: int
    receipt_hash: str


INSERTS = {
    "put_head": HeadRow,
    "insert_receipt": ReceiptRow,
    "insert_short_receipt": ShortReceipt,
    "insert_call_facts": CallFactsRow,
    "insert_open_intent": OpenIntentRow,
}
SELECTS = {
    "head": HeadRow,
    "lock_heads": HeadRow,
    "receipts": ReceiptRow,
    "receipts_of_call": ReceiptRow,
    "call_facts": CallFactsRow,
    "open_intents": OpenIntentRow,
}


def test_values_do_not_swap_when_placeholders_stand_out_of_order() -> None:
    text = "SELECT $2 AS second, $1 AS first, $2 || '$1' AS again"
    raw = sqlite3.connect(":memory:")
    assert raw.execute(for_engine(text, "sqlite"), ("one", "two")).fetchone() == (
        "two",
        "one",
        "two$1",
    )
    raw.close()
    assert for_engine(text, "postgres") == text


def test_sqlite_itself_would_swap_them() -> None:
    """The reason for the rewrite; if this ever fails, SQLite or Python has changed its mind."""
    raw = sqlite3.connect(":memory:")
    try:
        swapped = raw.execute("SELECT $2, $1", ("one", "two")).fetchone()
    except (sqlite3.Error, DeprecationWarning):
        swapped = ("one", "two")  # newer Pythons refuse it
    assert swapped == ("one", "two")
    raw.close()


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("SELECT 1; -- $9", "SELECT 1"),
        ("SELECT '$1; it''s $2', \"$3\", $1", "SELECT '$1; it''s $2', \"$3\", ?1"),
        ("SELECT $1,\n  $10, $2, $3, $4, $5, $6, $7, $8, $9", None),
    ],
)
def test_only_placeholders_are_rewritten(text: str, rewritten: str | None) -> None:
    found = for_engine(text, "sqlite")
    assert found == rewritten or (rewritten is None and found.startswith("SELECT ?1, ?10, ?2"))


@pytest.mark.parametrize("text", ["SELECT $2", "SELECT $1, $3", "SELECT $0"])
def test_placeholders_with_a_gap_are_refused(text: str) -> None:
    with pytest.raises(BadStatement):
        for_engine(text, "sqlite")


def write(folder: Path, name: str, text: str) -> None:
    """Writes one query file."""
    (folder / name).write_text(text)


def test_a_variant_replaces_the_shared_text_for_its_engine_only(tmp_path: Path) -> None:
    write(tmp_path, "a.sql", "-- name: x\n-- Why.\nSELECT $1;\n\n-- name: y\n-- Why.\nSELECT 2;\n")
    write(tmp_path, "a.sqlite.sql", "-- name: x\n-- The reason.\nSELECT $1 + 1;\n")
    assert load_statements("sqlite", tmp_path) == {"x": "SELECT ?1 + 1", "y": "SELECT 2"}
    assert load_statements("postgres", tmp_path) == {"x": "SELECT $1", "y": "SELECT 2"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.sql", "-- name: y\nSELECT 1;\n"),
        ("b.sql", "-- name: x\n-- Why.\nSELECT 1;\n"),
        ("b.sql", "-- name: y\n-- Why.\nSELECT 1;\n-- name: y\n-- Why.\nSELECT 1;\n"),
        ("b.oracle.sql", "-- name: y\n-- Why.\nSELECT 1;\n"),
    ],
    ids=["no comment", "name of another file", "name twice", "unknown engine"],
)
def test_a_malformed_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, "a.sql", "-- name: x\n-- Why.\nSELECT 1;\n")
    assert load_statements("sqlite", tmp_path) == {"x": "SELECT 1"}
    write(tmp_path, name, text)
    with pytest.raises(BadStatement):
        load_statements("sqlite", tmp_path)


def columns_in(text: str, before: str) -> list[list[str]]:
    """The lists of column names in a statement that stand between two words."""
    return [[name.strip() for name in found.split(",")] for found in re.findall(before, text)]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_column_lists_stand_in_the_order_of_the_records(engine: str) -> None:
    sql = load_statements(engine)
    for name, record in INSERTS.items():
        [columns] = columns_in(sql[name], r"INSERT INTO \w+ \(([^)]*)\)")
        assert tuple(columns) == record._fields, name
        mark = "?" if engine == "sqlite" else "$"
        values = ", ".join(f"{mark}{i + 1}" for i in range(len(columns)))
        assert re.sub(r"\(\s*|\s*\)", "|", sql[name]).count(f"|{values}|") == 1, name
    for name, record in SELECTS.items():
        for columns in columns_in(sql[name], r"(?<!\()SELECT (.*?) FROM"):
            assert tuple(columns) == record._fields, name


async def test_tables_have_the_columns_of_the_records_and_only_text_and_bigint(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "store.db"):
        pass
    raw = sqlite3.connect(tmp_path / "store.db")
    names = [row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert set(TABLES) < set(names)
    for name in names:
        columns = raw.execute(f"PRAGMA table_info({name})").fetchall()
        assert {column[2] for column in columns} <= {"TEXT", "BIGINT"}, name
        if name in TABLES:
            assert tuple(column[1] for column in columns) == TABLES[name]._fields
    raw.close()


async def test_every_statement_is_understood_by_sqlite(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db"):
        pass
    raw = sqlite3.connect(tmp_path / "store.db")
    for name, text in load_statements("sqlite").items():
        if not name.endswith("_entry"):
            raw.execute(f"EXPLAIN {text}", [None] * len(set(re.findall(r"\?\d+", text))))
    raw.close()


async def test_reads_of_the_ledger_use_an_index(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db"):
        pass
    raw = sqlite3.connect(tmp_path / "store.db")
    sql = load_statements("sqlite")
    names = "head receipts receipts_of_call call_facts lock_heads run_heads run_head"
    names += " tool_marks tool_pins tool_pin recorded_after facts_saying"
    for name in names.split():
        count = len(set(re.findall(r"\?\d+", sql[name])))
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql[name]}", [None] * count)]
        # The parameter itself, a JSON list, under its own name or the statement's.
        plan = [step for step in plan if "VIRTUAL TABLE" not in step]
        assert not [step for step in plan if step.startswith("SCAN")], (name, plan)
    raw.close()


def test_variants_are_few() -> None:
    """Verbs that two engines say differently; what only one engine has stands apart, and so does
    what a session with a server is asked and told before there is any verb."""
    by_engine = {
        engine: {
            name
            for path in SQL_FOLDER.glob(f"*.{engine}.sql")
            if path.name != "session.postgres.sql"
            for name in re.findall(r"-- name: (\w+)", path.read_text())
        }
        for engine in ("sqlite", "postgres")
    }
    assert 0 < len(by_engine["sqlite"] & by_engine["postgres"]) <= 12
    for engine, names in by_engine.items():
        assert len(names) <= 24, engine
