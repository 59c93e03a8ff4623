"""Nodes whose server was away for longer than a lease, and that are back: none of them is taken for
dead by the first, and none goes on where the store was moved meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import asyncpg
import pytest
from conformance_setup import intent, outcome, seal

from sidecar.clock import Clock
from sidecar.ledger.chain import seal as ledger_seal
from sidecar.ledger.lease import Lease
from storage import SqlStore, open_store
from storage.errors import StoreError, StoreUnavailable
from storage.marks import Marks, StoreMoved
from storage.records import Recorded

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
LEASE_S = 0.9


async def node(url: str, name: str) -> SqlStore:
    return await open_store(url, now_us=Clock().now_us, node_id=name)


def away_while(store: SqlStore, is_away: Callable[[], bool]) -> None:
    """The node's leases fail meanwhile, as they do where the server does not answer."""
    renew = store.renew_lease

    async def renewed(boot_id: str, lease_s: float) -> None:
        if is_away():
            raise StoreUnavailable("the server is away")
        await renew(boot_id, lease_s)

    store.renew_lease = renewed  # type: ignore[method-assign]


async def test_a15_who_is_back_first_takes_no_other_for_dead(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Both leases ran out while the server was away; the other comes a moment later."""
    first, other = await node(store_url, "first"), await node(store_url, "other")
    lease = Lease(first, ledger_seal, Clock(), boot_id="f", lease_s=LEASE_S)
    is_away = False
    away_while(first, lambda: is_away)
    try:
        await other.renew_lease("o", LEASE_S)
        await other.record([intent("c1", node_id="other")], ledger_seal)
        await lease.begin()
        running = asyncio.ensure_future(lease.run())
        is_away = True
        await asyncio.sleep(LEASE_S * 1.3)
        is_away = False
        await asyncio.sleep(LEASE_S * 0.5)
        assert await first.dead_nodes() == ["other"], "positive control: nobody could renew"
        await other.renew_lease("o", 60)
        await asyncio.sleep(LEASE_S)
        [ended] = await other.record([outcome("c1")], ledger_seal)
        assert isinstance(ended, Recorded), "a call of a living node ended unknown"
        said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        assert said.count("the lease of this node was not renewed") == 1
        assert sum("had run out" in one for one in said) == 1
        # One that does not come back is dead all the same.
        await other.record([intent("c2", node_id="other")], ledger_seal)
        await other.renew_lease("o", 0.01)
        async with asyncio.timeout(LEASE_S * 3):
            while not lease.recovered:
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await first.close()
        await other.close()


async def test_a15_a_lease_that_was_not_renewed_is_tried_again_soon(store_url: str) -> None:
    """Until it is there again others close whatever the node begins."""
    store = await node(store_url, "one")
    lease = Lease(store, ledger_seal, Clock(), boot_id="b", lease_s=3)
    await lease.begin()
    is_away = True
    away_while(store, lambda: is_away)
    running = asyncio.ensure_future(lease.run())
    try:
        await asyncio.sleep(1.2)
        before = await until_us(store_url)
        is_away = False
        await asyncio.sleep(0.4)
        assert await until_us(store_url) > before
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


async def until_us(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT lease_until_us FROM nodes"))
    finally:
        await connection.close()


async def test_a_node_that_connects_again_writes_nothing_to_a_store_that_was_moved(
    store_url: str,
) -> None:
    """Its network was dead, its lease ran out, somebody moved the store; it does not know yet."""
    gone, mover = await node(store_url, "gone"), await node(store_url, "mover")
    try:
        [answer] = await gone.record([intent("c1", node_id="gone")], seal)
        assert isinstance(answer, Recorded), "positive control"
        admin = await asyncpg.connect(store_url)
        await Marks(mover).leave("sqlite:////elsewhere.db")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid <> pg_backend_pid()"
        )
        await admin.close()
        for number in range(3):
            with pytest.raises(StoreError) as caught:
                await gone.record([intent(f"c{number + 2}", node_id="gone")], seal)
        assert isinstance(caught.value, StoreMoved)
        assert [row.call_id for row in await gone.receipts("acme", 0, 10)] == ["c1"]
    finally:
        await gone.close()
        await mover.close()
