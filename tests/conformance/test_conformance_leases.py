"""Nodes on one server: what a dead one left open is closed by another, and only after its lease."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from conformance_setup import intent, outcome, seal

from sidecar.clock import Clock
from sidecar.ledger.chain import seal as ledger_seal
from sidecar.ledger.lease import Lease
from storage import SqlStore, open_store
from storage.errors import StoreHeld
from storage.records import AlreadyClosed, Recorded

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)


async def node(url: str, name: str) -> SqlStore:
    return await open_store(url, now_us=Clock().now_us, node_id=name)


async def test_a_dead_nodes_intents_are_closed_after_its_lease_and_not_before(
    store_url: str,
) -> None:
    dead, other = await node(store_url, "dead"), await node(store_url, "other")
    try:
        await dead.renew_lease("boot", 0.6)
        await dead.record([intent("c1", node_id="dead"), intent("c2", node_id="dead")], ledger_seal)
        lease = Lease(other, ledger_seal, Clock(), boot_id="later", lease_s=5)
        await lease.begin()
        await lease.recover_dead()
        assert lease.recovered == 0, "its lease still runs"
        await asyncio.sleep(0.7)
        await lease.recover_dead()
        assert lease.recovered == 2
        [late] = await dead.record([outcome("c1")], ledger_seal)
        assert isinstance(late, AlreadyClosed)
        assert [row.kind for row in await other.receipts_of_call("acme", "c1")] == [
            "intent", "recovery",
        ]  # fmt: skip
    finally:
        await dead.close()
        await other.close()


async def test_a_node_that_stops_in_order_leaves_nothing_to_wait_for(store_url: str) -> None:
    one, other = await node(store_url, "one"), await node(store_url, "other")
    try:
        await one.renew_lease("boot", 60)
        await one.record([intent("c1", node_id="one")], seal)
        assert await other.dead_nodes() == []
        await one.end_lease("another boot")
        assert await other.dead_nodes() == []
        await one.end_lease("boot")
        assert await other.dead_nodes() == ["one"]
    finally:
        await one.close()
        await other.close()


async def test_two_processes_cannot_be_one_node(store_url: str) -> None:
    first, second = await node(store_url, "same"), await node(store_url, "same")
    try:
        await first.renew_lease("a", 0.5)
        with pytest.raises(StoreHeld) as caught:
            await second.renew_lease("b", 0.5)
        assert "another host name, or another port" in caught.value.next_step
        await first.renew_lease("a", 0.3)
        lease = Lease(second, ledger_seal, Clock(), boot_id="b", lease_s=0.5)
        await lease.begin()
        with pytest.raises(StoreHeld):
            await first.renew_lease("a", 0.5)
        [answer] = await first.record([intent("c1", node_id="same")], seal)
        assert isinstance(answer, Recorded)
    finally:
        await first.close()
        await second.close()


async def test_a15_a_lease_that_is_being_renewed_on_a_server_that_hangs_can_be_ended(
    store_url: str,
) -> None:
    """A sidecar that is told to stop then does: an error of the store did not take the place of
    being told."""
    store = await node(store_url, "one")
    lease = Lease(store, ledger_seal, Clock(), boot_id="boot", lease_s=0.3)
    await lease.begin()
    other = await asyncpg.connect(store_url)
    hold = other.transaction()
    await hold.start()
    await other.execute("LOCK TABLE nodes, store_state IN ACCESS EXCLUSIVE MODE")
    running = asyncio.create_task(lease.run())
    await asyncio.sleep(0.5)
    assert not running.done(), "it waits for the server"
    running.cancel()
    await asyncio.wait({running}, timeout=8)
    is_over = running.done()
    await hold.rollback()
    await other.close()
    running.cancel()
    await asyncio.wait({running})
    await store.close()
    assert is_over, "it went on"
