"""One step for many rows: the widened statement does what as many single ones do."""

from __future__ import annotations

import sqlite3

import pytest

from storage.sqlite_thread import ROWS_A_STEP, run_many
from storage.statements import load_statements, nameless, widened

SQL = load_statements("sqlite")


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(
        "CREATE TABLE open_intent (tenant_id TEXT, call_id TEXT, node_id TEXT, boot_id TEXT, "
        "PRIMARY KEY (tenant_id, call_id))"
    )
    return connection


def test_values_and_conditions_are_repeated_with_new_numbers() -> None:
    insert = "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO NOTHING"
    assert widened(insert, 2) == (
        "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT (a) DO NOTHING"
    )
    assert widened("DELETE FROM t WHERE (a = ?1 AND b = ?2)", 2) == (
        "DELETE FROM t WHERE (a = ?1 AND b = ?2) OR (a = ?3 AND b = ?4)"
    )


@pytest.mark.parametrize("text", ["SELECT a FROM t WHERE a = ?1", "INSERT INTO t VALUES (?1, 0)"])
def test_a_statement_without_a_row_of_placeholders_stays_as_it_is(text: str) -> None:
    assert widened(text, 4) is None


@pytest.mark.parametrize(("text", "bare"), [
    ("INSERT INTO t VALUES (?1, ?2), (?3, ?4)", "INSERT INTO t VALUES (?, ?), (?, ?)"),
    ("DELETE FROM t WHERE (a = ?1 AND b = '?7''?8') OR (\"?9\" = ?2)",
     "DELETE FROM t WHERE (a = ? AND b = '?7''?8') OR (\"?9\" = ?)"),
    ("SELECT ?2, ?1", None), ("SELECT ?1, ?1", None), ("SELECT ?1, ?2, ?1", None),
    ("SELECT ?1, ?3", None), ("SELECT 1", None),
])  # fmt: skip
def test_placeholders_lose_their_numbers_only_where_they_are_in_order(
    text: str, bare: str | None
) -> None:
    assert nameless(text) == (bare or text)


def test_what_is_written_by_many_rows_has_no_names() -> None:
    """A name is looked up for each value, among all of them: see `nameless`."""
    seen: list[str] = []
    connection = database()

    class Spy:
        def execute(self, sql: str, values: object) -> sqlite3.Cursor:
            seen.append(sql)
            return connection.execute(sql, values)  # type: ignore[arg-type]

        def executemany(self, sql: str, rows: object) -> sqlite3.Cursor:
            seen.append(sql)
            return connection.executemany(sql, rows)  # type: ignore[arg-type]

    rows = [("t", f"c{n}", "n", "b") for n in range(70)]
    run_many(Spy(), SQL["insert_open_intent"], rows)  # type: ignore[arg-type]
    assert len(seen) == 3 and not any("?1" in sql for sql in seen)
    assert connection.execute("SELECT count(*) FROM open_intent").fetchone() == (70,)
    connection.close()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 15, 16, 21, 64, 85, 200])
def test_no_row_is_lost_swapped_or_written_twice(count: int) -> None:
    rows = [(f"t{n % 3}", f"c{n}", f"n{n}", f"b{n}") for n in range(count)]
    connection = database()
    run_many(connection, SQL["insert_open_intent"], rows)
    found = connection.execute("SELECT * FROM open_intent ORDER BY rowid").fetchall()
    assert found == rows
    gone = [row[:2] for row in rows[::2]]
    assert run_many(connection, SQL["delete_open_intent"], [*gone, ("t0", "never there")]) == len(
        gone
    )
    left = connection.execute(
        "SELECT tenant_id, call_id FROM open_intent ORDER BY rowid"
    ).fetchall()
    assert left == [row[:2] for row in rows[1::2]]
    connection.close()


def test_a_wide_delete_searches_and_never_scans() -> None:
    connection = database()
    text = widened(SQL["delete_open_intent"], ROWS_A_STEP[0])
    plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", ["x"] * 2 * ROWS_A_STEP[0]).fetchall()
    assert "SEARCH" in str(plan)
    assert "SCAN" not in str(plan)
    connection.close()
