"""Durable storage for the ledger: importable on its own, knows nothing of the sidecar.

`open_store` gives the one writer of a store, `open_reader` a reader beside a running one.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial

from storage.driver import StoreFacts, fetch
from storage.errors import StoreCorrupt, StoreUnavailable
from storage.migrate import check_applied, migrate, read_migrations
from storage.sql_store import SqlReader, SqlStore, check_tail
from storage.sqlite import SqliteDriver, SqliteReaders
from storage.sqlite_file import path_of_url
from storage.statements import load_statements

__all__ = ["SqlReader", "SqlStore", "StoreFacts", "open_reader", "open_store"]


async def open_store(
    url: str,
    *,
    now_us: Callable[[], int],
    node_id: str | None = None,
    monotonic_ns: Callable[[], int] = time.perf_counter_ns,
) -> SqlStore:
    """Opens the store for writing, brings its schema up to date and checks its tail.

    `url` is sqlite:///relative/path or sqlite:////absolute/path. `node_id` names this node in
    open intents; without one the name kept in the store is used: the host's, when it was made.
    Raises UnsupportedStore, StoreHeld, StoreReadOnly, StoreFull, StoreBusy, StoreCorrupt,
    StoreTooNew, MigrationChanged or StoreUnavailable; then nothing is held.
    """
    sql = load_statements("sqlite")
    shipped = read_migrations("sqlite")
    tail = partial(check_tail, sql)
    driver = SqliteDriver(path_of_url(url), verify_tail=tail, monotonic_ns=monotonic_ns)
    await driver.open()
    try:
        await migrate(driver, sql, shipped, now_us)
        await driver.transaction(tail)
        if node_id is None:
            name = socket.gethostname() or "node"
            keep = partial(fetch, sql["keep_state"], "node_id", name)
            node_id = str((await driver.transaction(keep))[0][0])
    except BaseException:
        await driver.close()
        raise
    return SqlStore(driver, sql, now_us=now_us, node_id=node_id)


async def open_reader(url: str) -> SqlReader:
    """Opens a store for reading only, also while a running sidecar holds it.

    Raises UnsupportedStore, StoreUnavailable (no such store), StoreCorrupt or StoreTooNew.
    """
    path = path_of_url(url)
    if not path.is_file():
        raise StoreUnavailable(f"there is no store at {path}")
    sql = load_statements("sqlite")
    readers = SqliteReaders(path)
    try:
        if not await readers.fetch(sql["has_schema"]):
            raise StoreCorrupt(f"{path} is not a store of this program")
        check_applied(await readers.fetch(sql["applied_migrations"]), read_migrations("sqlite"))
    except BaseException:
        await readers.close()
        raise
    return SqlReader(readers, sql)
