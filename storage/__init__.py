"""Durable storage for the ledger: importable on its own, knows nothing of the sidecar.

`open_store` gives the writer of a store, `open_reader` a reader beside a running one.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from storage.driver import Script, StoreFacts, fetch
from storage.errors import StoreCorrupt, StoreMissing
from storage.known_heads import KnownHeads, check_heads, check_tail
from storage.marks import check_not_left, check_open_for_work
from storage.migrate import Migration, check_applied, migrate, read_migrations
from storage.move_sides import MoveRefused, Side, take
from storage.schema_check import check_drift
from storage.sql_store import SqlReader, SqlStore
from storage.sqlite import READ_LIMIT_S, READERS, SqliteDriver, SqliteReaders
from storage.sqlite_file import path_of_url
from storage.statements import load_statements

if TYPE_CHECKING:
    from storage.postgres import PostgresDriver, PostgresReaders
    from storage.postgres_hints import Heard, PostgresHints

__all__ = [
    "SqlReader",
    "SqlStore",
    "StoreFacts",
    "engine_of",
    "hints_of",
    "open_marks",
    "open_reader",
    "open_side",
    "open_store",
]

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


def engine_of(url: str) -> str:
    """'postgres' or 'sqlite', by the URL's scheme."""
    return "postgres" if url.startswith(POSTGRES_SCHEMES) else "sqlite"


async def open_store(
    url: str,
    *,
    now_us: Callable[[], int],
    node_id: str | None = None,
    monotonic_ns: Callable[[], int] = time.perf_counter_ns,
) -> SqlStore:
    """Opens the store for writing, brings its schema up to date and checks its tail.

    `url` is sqlite:///relative/path, sqlite:////absolute/path or postgresql://…. `node_id` names
    this node in open intents; without one a file's is the name kept in it (the host's, when it
    was made), a server's the host's.
    Raises UnsupportedStore, StoreHeld, StoreReadOnly, StoreFull, StoreBusy, StoreCorrupt,
    StoreTooNew, MigrationChanged, SchemaDrift or StoreUnavailable; then nothing is held.
    """
    engine = engine_of(url)
    sql = load_statements(engine)
    known = KnownHeads()
    driver = _driver(url, engine, sql, monotonic_ns, known, is_worked_on=True)
    await driver.open()
    try:
        shipped = read_migrations(engine)
        await migrate(driver, sql, shipped, now_us)
        await driver.transaction(partial(check_drift, sql, shipped))
        await driver.transaction(partial(check_open_for_work, sql))
        await driver.transaction(partial(check_tail, sql))
        name = socket.gethostname() or "node"
        if node_id is None and engine == "sqlite":
            keep = partial(fetch, sql["keep_state"], "node_id", name)
            node_id = str((await driver.transaction(keep))[0][0])
    except BaseException:
        await driver.close()
        raise
    return SqlStore(driver, sql, now_us=now_us, node_id=node_id or name, known=known)


async def open_side(
    url: str,
    shown: str,
    *,
    now_us: Callable[[], int],
    is_target: bool,
    fenced_node: str | None = None,
) -> tuple[Side, SqlReader]:
    """One end of a move, held and taken: the target with its schema brought up to date, the
    source as it is.

    `fenced_node` is the node whose sidecar stands still on the source: a file is then read beside
    it. Raises what `open_store` raises, and MoveRefused.
    """
    engine = engine_of(url)
    sql, shipped = load_statements(engine), read_migrations(engine)
    if engine == "sqlite" and not is_target and not path_of_url(url).is_file():
        raise StoreMissing(f"there is no store at {path_of_url(url)}")
    if engine == "sqlite" and fenced_node is not None:
        readers = _readers(url, engine, sql)
        beside, reader = Side(readers, sql, shown, None), SqlReader(readers, sql)
        try:
            await _check_source(beside, shipped)
        except BaseException:
            await reader.close()
            raise
        return beside, reader
    driver = _driver(url, engine, sql, time.perf_counter_ns, KnownHeads())
    await driver.open()
    side = Side(driver, sql, shown, driver)
    try:
        if is_target:
            await migrate(driver, sql, shipped, now_us)
        else:
            await _check_source(side, shipped)
        await take(side, fenced_node)
    except BaseException:
        await driver.close()
        raise
    return side, SqlStore(driver, sql, now_us=now_us, node_id="move")


async def _check_source(side: Side, shipped: Sequence[Migration]) -> None:
    """A whole store of this program, of this version."""
    if not await side.fetch("has_schema"):
        raise MoveRefused(f"{side.shown} is not a store of this program")
    applied = await side.fetch("applied_migrations")
    check_applied(applied, shipped)
    if len(applied) < len(shipped):
        raise MoveRefused(f"{side.shown} has an older schema: start the sidecar on it once")
    if rows := await side.fetch("heads_out_of_step"):
        raise StoreCorrupt(
            f"tenant {rows[0][0]!r}: the head at {rows[0][1]} is not the last receipt"
        )


async def open_marks(url: str, *, now_us: Callable[[], int]) -> SqlStore:
    """A store that may be fenced, for its marks alone: nothing may be recorded in it.

    Raises what `open_store` raises of a store that cannot be opened at all; StoreUnavailable if
    there is none.
    """
    engine = engine_of(url)
    sql = load_statements(engine)
    if engine == "sqlite" and not path_of_url(url).is_file():
        raise StoreMissing(f"there is no store at {path_of_url(url)}")
    driver = _driver(url, engine, sql, time.perf_counter_ns, KnownHeads())
    await driver.open()
    try:
        if not await driver.fetch(sql["has_schema"]):
            raise _not_a_store(engine)
        check_applied(await driver.fetch(sql["applied_migrations"]), read_migrations(engine))
    except BaseException:
        await driver.close()
        raise
    return SqlStore(driver, sql, now_us=now_us, node_id="marks")


def hints_of(url: str, heard: Heard) -> PostgresHints | None:
    """Hints between the nodes that share a store; None where no two can share it.

    `heard` is called on the event loop with the word of each hint, and with "" whenever some may
    have been missed. Nothing is connected to before its `run` is.
    """
    if engine_of(url) != "postgres":
        return None
    from storage.postgres import servers_at
    from storage.postgres_hints import PostgresHints

    sql = load_statements("postgres")
    return PostgresHints(servers_at(url, sql), sql, heard)


def _driver(
    url: str,
    engine: str,
    sql: Mapping[str, str],
    monotonic_ns: Callable[[], int],
    known: KnownHeads,
    *,
    is_worked_on: bool = False,
) -> SqliteDriver | PostgresDriver:
    def tail() -> Script[None]:
        """What must hold of a store that was connected to again: nothing known is lost, and a node
        that works on a server was not left behind."""
        yield from check_tail(sql)
        yield from check_heads(sql, known.all())
        if is_worked_on and engine == "postgres":
            yield from check_not_left(sql)

    if engine == "postgres":
        from storage.postgres import PostgresDriver  # its library is for those who use a server

        return PostgresDriver(url, sql, verify_tail=tail, monotonic_ns=monotonic_ns)
    return SqliteDriver(path_of_url(url), verify_tail=tail, monotonic_ns=monotonic_ns)


async def open_reader(
    url: str, *, limit_s: float = READ_LIMIT_S, connections: int | None = None
) -> SqlReader:
    """Opens a store for reading only, also while a running sidecar holds it.

    A read that takes longer than `limit_s` is cut off. At most so many `connections` are opened,
    each when first needed; without a number as many as suit the engine.

    Raises UnsupportedStore, StoreUnavailable (no such store), StoreCorrupt or StoreTooNew.
    """
    engine = engine_of(url)
    sql = load_statements(engine)
    readers = _readers(url, engine, sql, limit_s, connections)
    try:
        if not await readers.fetch(sql["has_schema"]):
            raise _not_a_store(engine)
        check_applied(await readers.fetch(sql["applied_migrations"]), read_migrations(engine))
    except BaseException:
        await readers.close()
        raise
    return SqlReader(readers, sql)


def _not_a_store(engine: str) -> StoreCorrupt:
    if engine == "postgres":
        from storage.postgres_errors import not_a_store

        return not_a_store()
    return StoreCorrupt("this is not a store of this program")


def _readers(
    url: str,
    engine: str,
    sql: Mapping[str, str],
    limit_s: float = READ_LIMIT_S,
    connections: int | None = None,
) -> SqliteReaders | PostgresReaders:
    if engine == "postgres":
        from storage import postgres

        count = connections or postgres.READERS
        return postgres.PostgresReaders(url, sql, limit_s=limit_s, count=count)
    path = path_of_url(url)
    if not path.is_file():
        raise StoreMissing(f"there is no store at {path}")
    return SqliteReaders(path, limit_s=limit_s, count=connections or READERS)
