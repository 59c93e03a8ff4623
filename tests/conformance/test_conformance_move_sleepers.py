"""A node that seemed dead when a move began, and goes on before the source was left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from conformance_setup import intent

import storage
from sidecar.clock import Clock
from sidecar.control.fencing import FenceRefused, Fencing
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.ledger.lease import Lease
from storage import open_store
from storage.marks import FenceMark, Marks, StoreMoved
from storage.records import Recorded

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
LEFT_FOR = "sqlite:////elsewhere.db"
STILL = SimpleNamespace(
    reserved=0, depth=lambda lane: 0, counters=SimpleNamespace(unknown=0)
)  # a queue with nothing in it


async def test_a_fenced_source_that_is_taken_up_at_the_last_moment_is_not_left(
    store_url: str,
) -> None:
    """What `leave_source` holds where nobody works on the source (see
    test_a_source_that_is_taken_up_at_the_last_moment_is_not_left), with a fenced sidecar."""
    clock = Clock()
    one = await open_store(store_url, now_us=clock.now_us, node_id="one")
    sleeper = await open_store(store_url, now_us=clock.now_us, node_id="sleeper")
    await one.renew_lease("a", 60)
    await sleeper.renew_lease("s", 0.2)  # and it is stopped
    await asyncio.sleep(0.3)
    fencing = Fencing(
        Fence(),
        queue=STILL,
        marks=Marks(one),
        clock=clock,
        node_id="one",
        tenants=["default"],
        wait_s=1,  # type: ignore[arg-type]
    )
    stand = await fencing.stand(target=LEFT_FOR, reason="", wait_s=1, actor="socket:ana")
    side, reader = await storage.open_side(
        store_url, "shown", now_us=clock.now_us, is_target=False, fenced_node="one"
    )
    heads = sorted(await side.fetch("move_heads"))
    # Everything was copied and compared by now; the sleeper goes on: it renews its lease, and the
    # store was not moved yet.
    await sleeper.renew_lease("s", 60)
    assert await Marks(sleeper).moved_to() is None
    try:
        with pytest.raises(FenceRefused):
            await fencing.leave(stand["fence_id"])
            [answer] = await sleeper.record([intent("c1", node_id="sleeper")], seal)
            assert isinstance(answer, Recorded)
            assert sorted(await side.fetch("move_heads")) == heads, "this receipt is lost"
    finally:
        await reader.close()
        await sleeper.close()
        await one.close()


async def test_a_node_that_seemed_dead_takes_no_calls_while_the_store_is_fenced(
    store_url: str,
) -> None:
    clock, fence = Clock(), Fence()
    store = await open_store(store_url, now_us=clock.now_us, node_id="sleeper")
    lease = Lease(store, seal, clock, boot_id="b", lease_s=0.3, fence=fence)
    await lease.begin()
    await Marks(store).put_fence(FenceMark("f1", LEFT_FOR, "one", "", 1))
    running = asyncio.ensure_future(lease.run())
    await asyncio.sleep(0.5)
    stood = fence.is_up
    await Marks(store).drop_fence()
    await asyncio.sleep(0.5)
    lifted = not fence.is_up
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
    assert stood, "it would record on a store that is being copied"
    assert lifted


async def test_a_node_whose_name_another_has_sees_that_the_store_was_moved(store_url: str) -> None:
    """It was stopped for longer than its lease, and its successor of the same name has begun."""
    clock, fence = Clock(), Fence()
    store = await open_store(store_url, now_us=clock.now_us, node_id="same")
    lease = Lease(store, seal, clock, boot_id="old", lease_s=0.3, fence=fence)
    await lease.begin()
    await asyncio.sleep(0.4)
    later = await open_store(store_url, now_us=clock.now_us, node_id="same")
    await later.renew_lease("new", 60)
    running = asyncio.ensure_future(lease.run())
    await Marks(later).leave(LEFT_FOR)
    await asyncio.sleep(1.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    answer: object
    try:
        [answer] = await store.record([intent("c1", node_id="same")], seal)
    except StoreMoved as told:  # stopped amid a question, it connects again, and is told by that
        answer = told
    await later.close()
    await store.close()
    assert fence.is_up, f"it goes on for good on a store that was left: {answer}"
