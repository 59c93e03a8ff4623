"""Row security: the wall behind the WHERE holds when the WHERE is taken out."""

from __future__ import annotations

from time import perf_counter_ns

import asyncpg
import pytest
from conformance_setup import OpenStore, intent, seal

from storage.driver import Script, fetch
from storage.errors import StoreReadOnly
from storage.postgres import PostgresDriver, PostgresReaders
from storage.postgres_errors import is_distrustful
from storage.scopes import EVERY_TENANT
from storage.statements import load_statements

#: What a statement would be if somebody had forgotten its filter.
UNFILTERED = "SELECT tenant_id FROM receipts"
SQL = load_statements("postgres")


#: A file guards no rows: one process holds it.
pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)


async def fill(open_it: OpenStore) -> None:
    store = await open_it()
    await store.record([intent("c1", "acme"), intent("c2", "rival"), intent("c3", "acme")], seal)


async def test_a_reader_sees_its_tenant_only_without_any_filter(
    open_it: OpenStore, store_url: str
) -> None:
    await fill(open_it)
    readers = PostgresReaders(store_url, SQL)
    try:
        assert await readers.fetch(UNFILTERED, tenant="acme") == [("acme",), ("acme",)]
        assert await readers.fetch(UNFILTERED, tenant="rival") == [("rival",)]
        assert await readers.fetch(UNFILTERED, tenant="nobody") == []
        heads = await readers.fetch(SQL["last_receipts"])
        assert sorted(row[:2] for row in heads) == [("acme", 2), ("rival", 1)], "control: a job"
    finally:
        await readers.close()


async def test_a_connection_that_has_named_nobody_sees_nothing(
    open_it: OpenStore, store_url: str
) -> None:
    await fill(open_it)
    connection = await asyncpg.connect(store_url)
    try:
        tables = "receipts call_facts open_intent chain_head run_head limit_bucket tool_pin"
        for table in tables.split():
            assert await connection.fetch(f"SELECT * FROM {table}") == [], table
        await connection.execute(SQL["set_scope"].replace("$1", f"'{EVERY_TENANT}'"))
        assert len(await connection.fetch("SELECT * FROM receipts")) == 3
    finally:
        await connection.close()


async def test_a_batch_cannot_write_for_a_tenant_it_does_not_name(
    open_it: OpenStore, store_url: str
) -> None:
    await fill(open_it)

    def no_check() -> Script[None]:
        yield from fetch("SELECT 1")

    driver = PostgresDriver(store_url, SQL, verify_tail=no_check, monotonic_ns=perf_counter_ns)
    await driver.open()

    def foreign() -> Script[object]:
        return (yield from fetch(SQL["raise_epoch"], "rival"))

    def stealthy() -> Script[object]:
        return (yield from fetch("DELETE FROM call_facts RETURNING tenant_id"))

    try:
        with pytest.raises(StoreReadOnly) as caught:
            await driver.transaction(foreign, ["acme"])
        assert is_distrustful(caught.value)
        assert await driver.transaction(foreign, ["rival"]) == [(1,)]
        assert await driver.transaction(stealthy, ["rival"]) == [("rival",)]
        kept = "SELECT tenant_id FROM call_facts"
        assert await driver.fetch(kept, tenant="acme") == [("acme",), ("acme",)]
        assert await driver.fetch(kept, tenant="rival") == []
    finally:
        await driver.close()
