"""G3, A18: whose rows a connection sees, over and over again; and nodes whose clocks disagree."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import asyncpg
import pytest
from conformance_setup import OpenStore, intent, seal

from sidecar.clock import Clock
from sidecar.ledger.chain import seal as ledger_seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.lease import Lease
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.verify import verify_lines
from storage import SqlStore, open_store
from storage.postgres import READERS, PostgresReaders
from storage.records import Entry, Recorded
from storage.statements import load_statements

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)

SQL = load_statements("postgres")
HOUR_US = 3_600_000_000


async def test_g3_a_connection_that_comes_back_to_the_pool_forgets_whose_rows_it_saw(
    open_it: OpenStore, store_url: str
) -> None:
    store = await open_it()
    await store.record([intent("c1", "acme"), intent("c2", "rival")], seal)
    readers = PostgresReaders(store_url, SQL)
    try:
        for tenant in ("acme", "rival", "acme"):
            rows = await readers.fetch("SELECT tenant_id FROM receipts", tenant=tenant)
            assert rows == [(tenant,)], "positive control: it sees what it named"
            pool = await readers._opened()
            async with pool.acquire() as connection:
                scope = await connection.fetchval("SELECT current_setting('aegis.tenants')")
                assert scope == ""
                assert await connection.fetch("SELECT 1 FROM receipts") == []
    finally:
        await readers.close()


async def test_g3_readers_side_by_side_see_their_own_tenants_only(
    open_it: OpenStore, store_url: str
) -> None:
    store = await open_it()
    tenants = [f"t{number}" for number in range(3 * READERS)]
    await store.record([intent(f"c-{tenant}", tenant) for tenant in tenants], seal)
    unfiltered = "SELECT tenant_id FROM receipts, pg_sleep(0.01)"
    readers = PostgresReaders(store_url, SQL)
    try:
        asked = [tenant for tenant in tenants for _ in range(4)]
        seen = await asyncio.gather(*(readers.fetch(unfiltered, tenant=one) for one in asked))
        assert seen == [[(tenant,)] for tenant in asked]
    finally:
        await readers.close()


@pytest.mark.parametrize("right", ["SUPERUSER", "BYPASSRLS", ""])
async def test_g3_a_role_above_row_security_is_warned_about_at_the_start(
    store_url: str, postgres_dsn: str, right: str
) -> None:
    role = store_url.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_dsn)
    if right:
        await admin.execute(f"ALTER ROLE {role} {right}")
    await admin.close()
    store = await open_store(store_url, now_us=lambda: 1, node_id="node")
    warned = [one for one in store.facts().warnings if "row security does not hold" in one]
    await store.close()
    assert len(warned) == bool(right)
    if warned:
        assert "give the sidecar a role of its own" in warned[0]


async def test_a_server_that_does_not_keep_its_promises_is_warned_about(store_url: str) -> None:
    connection = await asyncpg.connect(store_url)
    is_off = await connection.fetchval("SELECT current_setting('fsync')") == "off"
    await connection.close()
    store = await open_store(store_url, now_us=lambda: 1, node_id="node")
    warned = [one for one in store.facts().warnings if "fsync" in one]
    await store.close()
    assert len(warned) == is_off, "the tests' own server is such a one"


class _Skewed(Clock):
    """A node whose wall clock is wrong."""

    def __init__(self, by_us: int) -> None:
        super().__init__()
        self.by_us = by_us

    def now_us(self) -> int:
        return super().now_us() + self.by_us


async def recorded(store: SqlStore, clock: Clock, number: int) -> int:
    """One refusal, at the time the node believes it is; gives the time on record."""
    call_id = f"{number:032x}"
    draft = blank_receipt(
        "acme", "refusal", event_id=call_id, call_id=call_id, ts_us=clock.now_us()
    )
    [answer] = await store.record([Entry(draft)], ledger_seal)
    assert isinstance(answer, Recorded)
    return answer.ts_us


async def test_a18_nodes_whose_clocks_differ_by_an_hour_write_one_chain_in_order(
    store_url: str,
) -> None:
    clocks = [_Skewed(0), _Skewed(HOUR_US), _Skewed(-HOUR_US)]
    stores = [
        await open_store(store_url, now_us=clock.now_us, node_id=f"node-{number}")
        for number, clock in enumerate(clocks)
    ]
    try:
        order = [0, 1, 2, 0, 2, 1, 0, 2]
        believed = []
        for number, node in enumerate(order):
            believed.append(clocks[node].now_us())
            await recorded(stores[node], clocks[node], number)
        assert any(later < earlier for earlier, later in pairwise(believed)), "positive control"
        rows = await stores[0].receipts("acme", 0, 100)
        lines = [line async for line in export_lines(stores[2], "acme")]
    finally:
        for store in stores:
            await store.close()
    assert [row.seq for row in rows] == list(range(1, len(order) + 1))
    assert all(earlier.ts_us <= later.ts_us for earlier, later in pairwise(rows))
    # A time that was held back is marked by being that of the receipt before it.
    held = [later.seq for earlier, later in pairwise(rows) if later.ts_us == earlier.ts_us]
    assert held == [3, 4, 5, 7, 8]
    assert verify_lines(lines).holds


@pytest.mark.parametrize("by_us", [-HOUR_US, HOUR_US])
async def test_a18_a_lease_runs_by_the_server_s_clock_whatever_a_node_believes(
    store_url: str, by_us: int
) -> None:
    right, wrong = Clock(), _Skewed(by_us)
    living = await open_store(store_url, now_us=wrong.now_us, node_id="living")
    other = await open_store(store_url, now_us=right.now_us, node_id="other")
    try:
        await living.renew_lease("boot", 0.5)
        await living.record([intent("c1", node_id="living")], ledger_seal)
        lease = Lease(other, ledger_seal, right, boot_id="later", lease_s=5)
        await lease.begin()
        assert await other.dead_nodes() == [], "an hour's difference kills nobody"
        await asyncio.sleep(0.6)
        assert await other.dead_nodes() == ["living"], "positive control: its lease has run out"
    finally:
        await living.close()
        await other.close()
