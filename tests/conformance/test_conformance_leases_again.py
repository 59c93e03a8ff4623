"""A node that was dead for a moment and lives again keeps the calls it has begun since."""

from __future__ import annotations

import asyncio

import pytest
from conformance_setup import intent, outcome

from sidecar.clock import Clock
from sidecar.ledger.chain import seal as ledger_seal
from sidecar.ledger.lease import Lease
from storage import SqlStore, open_store
from storage.records import Recorded

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)


async def node(url: str, name: str) -> SqlStore:
    return await open_store(url, now_us=Clock().now_us, node_id=name)


async def test_a_node_that_lives_again_keeps_its_calls(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It renews its lease, and begins another call, right after it was found dead."""
    paused, other = await node(store_url, "paused"), await node(store_url, "other")
    look = other.dead_nodes

    async def then_it_goes_on() -> list[str]:
        found = await look()
        if found:
            await paused.renew_lease("boot", 60)
            await paused.record([intent("new", node_id="paused")], ledger_seal)
        return found

    try:
        await paused.renew_lease("boot", 0.3)
        await paused.record([intent("old", node_id="paused")], ledger_seal)
        await asyncio.sleep(0.4)
        lease = Lease(other, ledger_seal, Clock(), boot_id="other")
        await lease.begin()
        monkeypatch.setattr(other, "dead_nodes", then_it_goes_on)
        await lease.recover_dead()
        assert await look() == [], "it lives"
        [ended] = await paused.record([outcome("new")], ledger_seal)
        assert isinstance(ended, Recorded), "a living node's call was closed as unknown"
    finally:
        await paused.close()
        await other.close()
