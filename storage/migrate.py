"""Brings a store's schema up to what this program knows, one numbered file at a time.

Each file and its row in `schema_migration` stand in one transaction, so a crash leaves whole
steps only and the next start goes on from there. Files are forward only and never edited after
a release: a changed checksum is refused, and so is a schema newer than this program.
Statements are split and run one by one: `executescript` would commit on its own and leave half
a migration behind. `NNNN_verb_noun.<engine>.sql` stands in for `NNNN_verb_noun.sql` where an
engine needs another text; without the latter it is a step of that engine alone.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from storage.driver import Driver, Row, Script, execute_many, fetch
from storage.errors import MigrationChanged, StoreTooNew

_log = logging.getLogger("aegis.store")

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)(?:\.([a-z]+))?\.sql")


class Migration(NamedTuple):
    """One step as shipped."""

    version: int
    name: str
    sha256: str
    statements: tuple[str, ...]


def split_statements(text: str) -> Iterator[str]:
    """The statements of an SQL text, in order; a semicolon in a string or trigger does not split.

    Raises ValueError if the text ends within a statement.
    """
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if any(line.strip() and not line.strip().startswith("--") for line in pending.splitlines()):
        raise ValueError(f"unfinished statement: {pending.strip()[:60]!r}")


def read_migrations(engine: str, folder: Path = MIGRATIONS_FOLDER) -> list[Migration]:
    """The migrations of a folder for one engine, in order.

    Raises ValueError for a misnamed file, a gap in the numbers or an unfinished statement.
    """
    numbers: set[int] = set()
    chosen: dict[int, tuple[str, Path]] = {}
    for path in sorted(folder.glob("*.sql"), key=lambda path: path.name.count(".")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path.name} is not named NNNN_verb_noun.sql")
        numbers.add(int(match[1]))
        if match[3] in (None, engine):
            chosen[int(match[1])] = (match[2], path)
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        raise ValueError(f"migrations {sorted(numbers)} do not count 1, 2, 3 …")
    return [_read(version, *chosen[version]) for version in sorted(chosen)]


def _read(version: int, name: str, path: Path) -> Migration:
    data = path.read_bytes()
    statements = tuple(split_statements(data.decode("utf-8")))
    return Migration(version, name, hashlib.sha256(data).hexdigest(), statements)


def check_applied(applied: Sequence[Row], shipped: Sequence[Migration]) -> None:
    """Raises StoreTooNew or MigrationChanged if `applied` is not a beginning of `shipped`."""
    known = {migration.version: migration for migration in shipped}
    for version, name, sha256 in applied:
        if version not in known:
            newest = applied[-1]
            raise StoreTooNew(
                f"the store has schema {newest[0]} ({newest[1]}); this program knows up to "
                f"{max(known, default=0)}"  # an engine has not every number
            )
        if known[version].sha256 != sha256:
            raise MigrationChanged(
                f"migration {version:04}_{name} was applied in another form than the one shipped"
            )


async def migrate(
    driver: Driver,
    sql: Mapping[str, str],
    shipped: Sequence[Migration],
    now_us: Callable[[], int],
) -> int:
    """Applies what is missing; gives the schema's version.

    Raises StoreTooNew, MigrationChanged, or what the driver raises; whole steps stay applied.
    """
    applied = await driver.transaction(partial(_applied, sql))
    if len(applied) >= len(shipped):
        # Nothing is locked for what is there: on a server anybody may hold that lock for good.
        check_applied(applied, shipped)
        return shipped[-1].version
    if 0 < len(applied) < len(shipped):
        _log.info(  # before it begins: nobody is to take a long start for one that hangs
            "the store is brought up to date",
            extra={
                "detail": f"from schema {applied[-1][0]} to {shipped[-1].version}; of a large "
                "store it takes minutes, and of a file as much room again"
            },
        )
    while await driver.transaction(partial(_apply_next, sql, shipped, now_us())):
        pass
    return shipped[-1].version


def _applied(sql: Mapping[str, str]) -> Script[list[Row]]:
    """The steps that were applied; none of a place where there is no store yet."""
    if not (yield from fetch(sql["has_schema"])):
        return []
    return (yield from fetch(sql["applied_migrations"]))


def _apply_next(sql: Mapping[str, str], shipped: Sequence[Migration], at_us: int) -> Script[bool]:
    """Applies the first step that is missing; whether there was one. One node at a time."""
    yield from fetch(sql["lock_schema"])
    yield from fetch(sql["create_schema_migration"])
    applied = yield from fetch(sql["applied_migrations"])
    check_applied(applied, shipped)
    if len(applied) == len(shipped):
        return False
    migration = shipped[len(applied)]
    for statement in migration.statements:
        yield from fetch(statement)
    row = (migration.version, migration.name, migration.sha256, at_us)
    yield from execute_many(sql["insert_migration"], [row])
    return True
