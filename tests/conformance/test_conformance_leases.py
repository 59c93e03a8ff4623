"""Nodes on one server: what a dead one left open is closed by another, and only after its lease."""

from __future__ import annotations

import asyncio

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
        with pytest.raises(StoreHeld):
            await second.renew_lease("b", 0.5)
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
