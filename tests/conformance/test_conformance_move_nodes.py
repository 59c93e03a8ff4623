"""Nodes of one server and a move away from it: who comes late, comes back or comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from move_store import fill

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.ledger.lease import Lease
from storage import open_store
from storage.driver import Row
from storage.marks import FenceMark, Marks, StoreFenced, StoreMoved
from storage.move import leave_source, move
from storage.move_sides import MoveRefused, Side
from storage.sql_store import SqlReader

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


async def test_what_is_recorded_while_a_store_is_moved_stops_the_move_and_is_no_damage(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fence was lifted after the mover had seen how far the chains are."""
    clock, begin = Clock(), storage.move._begin
    await fill(store_url, 3, 1)

    async def overtaken(source: Side, target: Side, heads: Sequence[Row]) -> None:
        await begin(source, target, heads)
        await fill(store_url, 1, 1)

    async def verified(reader: SqlReader, tenant: str) -> None:
        assert await reader.receipts(tenant, 0, 1)

    def told(phase: str, done: int, total: int) -> None:
        assert done <= total or phase == "receipts"

    async def left(heads: Sequence[Row]) -> None:
        assert heads

    async def moved(to: str) -> int:
        source, reader = await storage.open_side(
            store_url, "source", now_us=clock.now_us, is_target=False
        )
        target, other = await storage.open_side(
            f"sqlite:///{tmp_path}/{to}.db", to, now_us=clock.now_us, is_target=True
        )
        try:
            return (await move(source, target, verified, told, left)).receipts
        finally:
            await reader.close()
            await other.close()

    with monkeypatch.context() as while_it_is_moved:
        while_it_is_moved.setattr(storage.move, "_begin", overtaken)
        with pytest.raises(MoveRefused, match="somebody works on it"):
            await moved("overtaken")
    assert await moved("alone") == 8, "positive control"
