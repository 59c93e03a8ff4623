"""Nodes of one server and a move away from it: who comes late, comes back or comes in between."""

from __future__ import annotations

import asyncio

import pytest

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.ledger.lease import Lease
from storage import open_store
from storage.marks import FenceMark, Marks, StoreFenced, StoreMoved
from storage.move import leave_source
from storage.move_sides import MoveRefused

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
LEFT_FOR = "sqlite:////elsewhere.db"


async def test_a_node_that_opened_before_the_mark_and_lives_after_it_does_not_begin(
    store_url: str,
) -> None:
    clock = Clock()
    store = await open_store(store_url, now_us=clock.now_us, node_id="late")
    marks = Marks(store)
    await marks.put_fence(FenceMark("f1", LEFT_FOR, "one", "", 1))
    with pytest.raises(StoreFenced):
        await Lease(store, seal, clock, boot_id="b").begin()
    await marks.drop_fence()
    await marks.leave(LEFT_FOR)
    with pytest.raises(StoreMoved):
        await Lease(store, seal, clock, boot_id="b").begin()
    side, reader = await storage.open_side(
        store_url, "shown", now_us=clock.now_us, is_target=False
    )  # nobody is left to be seen as living
    assert side.shown == "shown"
    await reader.close()
    await store.close()


async def test_a_node_that_seemed_dead_stops_when_it_sees_that_the_store_was_moved(
    store_url: str,
) -> None:
    clock, fence = Clock(), Fence()
    store = await open_store(store_url, now_us=clock.now_us, node_id="sleeper")
    lease = Lease(store, seal, clock, boot_id="b", lease_s=0.3, fence=fence)
    await lease.begin()
    running = asyncio.ensure_future(lease.run())
    await asyncio.sleep(0.3)
    assert not fence.is_up, "positive control"
    await Marks(store).leave(LEFT_FOR)
    for _ in range(50):
        await asyncio.sleep(0.05)
        if fence.is_up:
            break
    assert fence.refused().code == "store_moved"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_a_source_that_is_taken_up_at_the_last_moment_is_not_left(store_url: str) -> None:
    clock = Clock()
    store = await open_store(store_url, now_us=clock.now_us, node_id="early")
    side, reader = await storage.open_side(store_url, "shown", now_us=clock.now_us, is_target=False)
    await store.renew_lease("b", 60)
    with pytest.raises(MoveRefused, match="taken up by early"):
        await leave_source(side, LEFT_FOR, [])
    assert await Marks(store).moved_to() is None
    await store.end_lease("b")
    await leave_source(side, LEFT_FOR, [])
    assert await Marks(store).moved_to() == LEFT_FOR, "positive control"
    await reader.close()
    await store.close()
