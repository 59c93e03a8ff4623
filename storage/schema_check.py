"""Whether a store's schema is the one its migrations give: an index that was dropped, a column
that was added or a trigger that was planted is found before anything is served.

Knows: how each engine describes its tables. Must not know: what the tables mean.
For SQLite the migrations are run into a database in memory, and both are asked in the same words.
For a server, which has no such place, its answer to the migrations is kept beside them; a test
makes it anew from an empty database and compares.
On a server only our own tables are looked at: others may stand beside them. An index that an
operator added for reports is let be, as long as it can only cost time: one that is unique, on an
expression or partial could refuse a row, and is drift like everything else.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import NamedTuple

from storage.driver import Row, Script, fetch
from storage.errors import StoreError
from storage.migrate import MIGRATIONS_FOLDER, Migration, read_migrations
from storage.sql_store import SqlReader

#: What `server_schema` gives of our tables after all migrations.
SERVER_SCHEMA = MIGRATIONS_FOLDER / "schema.postgres.json"
#: What may be there although no migration makes it.
HARMLESS = "plain index"

#: A literal or a quoted name stays as it is; a comment goes; blanks are one blank.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|\s+", re.DOTALL)


class SchemaDrift(StoreError):
    """The store's tables are not those its migrations make."""

    code = "schema_drift"
    next_step = (
        "Undo what was done to the schema by hand, or restore a backup: the sidecar does not "
        "write to tables it does not know."
    )


class _Object(NamedTuple):
    """A table, index, trigger, policy or the like; `columns` of a table by name, as declared."""

    kind: str
    table: str
    text: str
    columns: dict[str, str]


def expected_schema(sql: Mapping[str, str], shipped: Sequence[Migration]) -> list[Row]:
    """What `schema_objects` gives for a store to which exactly `shipped` was applied (SQLite)."""
    return list(_described(tuple(shipped), sql["create_schema_migration"], sql["schema_objects"]))


@lru_cache(maxsize=8)
def _described(shipped: tuple[Migration, ...], create: str, ask: str) -> tuple[Row, ...]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute(create)
        for migration in shipped:
            for statement in migration.statements:
                raw.execute(statement)
        return tuple(raw.execute(ask).fetchall())


def expected_on_server() -> list[Row]:
    """What `server_schema` gives for a store to which all that is shipped was applied."""
    return [tuple(row) for row in json.loads(SERVER_SCHEMA.read_text(encoding="utf-8"))]


def check_drift(sql: Mapping[str, str], shipped: Sequence[Migration]) -> Script[None]:
    """Raises SchemaDrift if a store to which exactly `shipped` was applied has another schema."""
    if "server_schema" in sql:
        expected = expected_on_server()
        tables = json.dumps(sorted({str(row[2]) for row in expected}))
        actual = yield from fetch(sql["server_schema"], tables)
    else:
        expected = expected_schema(sql, shipped)
        actual = yield from fetch(sql["schema_objects"])
    check_schema(actual, expected)


def check_schema(actual: Sequence[Row], expected: Sequence[Row]) -> None:
    """Raises SchemaDrift, naming every difference, if two descriptions of a schema differ."""
    found = differences(actual, expected)
    if found:
        raise SchemaDrift("; ".join(found))


def differences(actual: Sequence[Row], expected: Sequence[Row]) -> list[str]:
    """What is missing, unknown or defined otherwise, in words; nothing if there is no drift."""
    is_there, should_be = _objects(actual), _objects(expected)
    found = []
    for key in sorted(should_be.keys() | is_there.keys()):
        here, wanted, name = is_there.get(key), should_be.get(key), key[0]
        if wanted is None and here is not None:
            if here.kind == HARMLESS:
                continue
            found.append(f"{_named(name, here)} is unknown")
        elif here is None and wanted is not None:
            found.append(f"{_named(name, wanted)} is missing{_as_made(wanted)}")
        elif here is not None and wanted is not None and here != wanted:
            found += _changes(name, here, wanted)
    return found


def _objects(rows: Sequence[Row]) -> dict[tuple[str, str], _Object]:
    """By name and table: a server's policies have a name on each of their tables."""
    found: dict[tuple[str, str], _Object] = {}
    for kind, name, table, text, column, *declared in rows:
        one = found.setdefault((name, table), _Object(kind, table, _normalised(text or ""), {}))
        if column is not None:
            one.columns[column] = _declared(*declared)
    return found


@lru_cache(maxsize=512)
def _normalised(text: str) -> str:
    """The text without comments and needless blanks."""

    def replace(token: re.Match[str]) -> str:
        return token[0] if token[0][0] in "'\"" else " "

    return re.sub(r" *([(),]) *", r"\1", " ".join(_TOKEN.sub(replace, text).split()))


def _declared(kind: str, is_not_null: int, default: str | None, key: int) -> str:
    words = [kind or "no type"]
    if is_not_null:
        words.append("NOT NULL")
    if default is not None:
        words.append(f"DEFAULT {default}")
    if key:
        words.append(f"key part {key}")
    return " ".join(words)


def _named(name: str, one: _Object) -> str:
    return f"{one.kind} {name}" if one.kind == "table" else f"{one.kind} {name} on {one.table}"


def _changes(name: str, here: _Object, wanted: _Object) -> list[str]:
    if here.kind != wanted.kind:
        return [f"{name} is a {here.kind}, not a {wanted.kind}"]
    found = []
    for column in sorted(here.columns.keys() | wanted.columns.keys()):
        is_there, should_be = here.columns.get(column), wanted.columns.get(column)
        if should_be is None:
            found.append(f"column {name}.{column} is unknown")
        elif is_there is None:
            found.append(f"column {name}.{column} is missing")
        elif is_there != should_be:
            found.append(f"column {name}.{column} is {is_there}, not {should_be}")
    return found or [f"{_named(name, here)} is defined otherwise: {here.text}, not {wanted.text}"]


def _as_made(one: _Object) -> str:
    """How the migrations make it, for whoever has to make it again; of a table only that it is."""
    return f": {one.text}" if one.text and one.kind != "table" else ""


async def check_reader(reader: SqlReader) -> None:
    """Compares the schema of a store that is read with what the migrations applied to it give.

    Raises SchemaDrift, or a StoreError of reading. Does nothing for a server: it is compared
    whenever it is opened for writing, after the migrations.
    """
    if "schema_objects" not in reader._sql:
        return
    applied = len(await reader._reads.fetch(reader._sql["applied_migrations"]))
    shipped = read_migrations("sqlite")[:applied]
    actual = await reader._reads.fetch(reader._sql["schema_objects"])
    check_schema(actual, expected_schema(reader._sql, shipped))
