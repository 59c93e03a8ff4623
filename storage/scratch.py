"""A scratch store on a database server: a schema of its own beside the real one, gone afterwards.

Knows: how to make, find again and drop it, one at a time for each database. A measurement in it
uses the same server, disk and connection path as the real store and touches none of its tables.
Must not know: what is measured.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from storage.driver import Script, Value, fetch
from storage.errors import StoreHeld, StoreReadOnly
from storage.statements import load_statements

SCHEMA = "aegis_calibration"
#: The number of the lock that a calibration holds.
CALIBRATION_LOCK = 4711200802


@asynccontextmanager
async def scratch_schema(url: str) -> AsyncIterator[str]:
    """Gives the URL of an empty store in the database that `url` names; drops it at the end.

    What a killed measurement left is dropped first. Raises StoreHeld while another one runs
    there, StoreReadOnly if the role may not create a schema, or what opening a store raises.
    """
    from storage.postgres import PostgresDriver  # the library is for those who use a server

    sql = load_statements("postgres")
    driver = PostgresDriver(
        url, sql, verify_tail=_nothing_to_check, monotonic_ns=time.perf_counter_ns
    )
    await driver.open()

    async def perform(name: str, *parameters: Value) -> list[tuple[object, ...]]:
        return await driver.transaction(partial(fetch, sql[name], *parameters))

    try:
        if not (await perform("take_job", CALIBRATION_LOCK))[0][0]:
            raise StoreHeld("another calibration runs on this database")
        try:
            await perform("drop_scratch_schema")
            await perform("make_scratch_schema")
        except StoreReadOnly as error:
            raise StoreReadOnly(f"the role may not create the schema {SCHEMA}: {error}") from error
        try:
            yield f"{url}{'&' if '?' in url else '?'}search_path={SCHEMA}"
        finally:
            await perform("drop_scratch_schema")
    finally:
        await driver.close()


def _nothing_to_check() -> Script[None]:
    """The connection is for the schema only; the store's end is none of its business."""
    yield from ()
