"""The end (A6): no new calls, what waits is written, what is reserved may still come."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest
from storage_load_setup import make_call, queue_on
from storage_queue_setup import ToldStore, begin, intent, outcome, told_queue, until

from storage.errors import QueueClosed, StoreFull
from storage.records import Recorded


async def test_a6_a_full_queue_is_written_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    async with queue_on(tmp_path / "a.db") as queue:
        calls = [make_call() for _ in range(800)]
        slots = [queue.reserve() for _ in calls]
        tasks = [begin(queue, call[0]) for call in calls]
        await asyncio.sleep(0)
        draining = asyncio.get_running_loop().create_task(queue.drain(10.0))
        await asyncio.gather(*tasks)
        with pytest.raises(QueueClosed):
            await queue.submit(make_call()[0])
        for call, slot in zip(calls, slots, strict=True):
            queue.enqueue(call[1], slot)
        assert await draining == 0
    with sqlite3.connect(tmp_path / "a.db") as beside:
        assert beside.execute("SELECT count(*) FROM receipts").fetchone() == (1600,)
        assert beside.execute("SELECT count(*) FROM open_intent").fetchone() == (0,)
    beside.close()


async def test_a6_a_drain_waits_for_places_and_no_longer_than_its_deadline() -> None:
    async with told_queue() as queue:
        first, second = queue.reserve(), queue.reserve()
        draining = asyncio.get_running_loop().create_task(queue.drain(0.15))
        await asyncio.sleep(0.02)
        assert not draining.done()
        with pytest.raises(QueueClosed):
            queue.reserve()
        queue.enqueue(outcome(), first)
        started = time.perf_counter()
        assert await draining == 1
        assert time.perf_counter() - started < 1.0
        with pytest.raises(QueueClosed):
            queue.enqueue(outcome(), second)
        assert queue.counters.queued.rejected["closed"] == 2


async def test_a6_a_drain_ends_as_soon_as_nothing_is_left() -> None:
    async with told_queue() as queue:
        slot, other = queue.reserve(), queue.reserve()
        draining = asyncio.get_running_loop().create_task(queue.drain(30.0))
        await asyncio.sleep(0.01)
        queue.enqueue(outcome(), slot)
        await asyncio.sleep(0.01)
        assert not draining.done()
        other.release()
        assert await asyncio.wait_for(draining, 1.0) == 0


async def test_a6_a_drain_of_a_broken_store_ends_and_says_what_is_left() -> None:
    store = ToldStore()
    store.is_broken = StoreFull()
    async with told_queue(store) as queue:
        for _ in range(3):
            queue.enqueue(outcome(), queue.reserve())
        assert await queue.drain(0.1) == 3


async def test_a6_who_still_waits_at_the_end_is_told() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, wait_s=0.3) as queue:
        running = begin(queue, intent(call_id="running"))
        await store.entered.wait()
        waiting = begin(queue, intent(call_id="waiting"))
        await asyncio.sleep(0)
        assert await queue.drain(0.05) == 2
        closing = asyncio.get_running_loop().create_task(queue.close())
        with pytest.raises(QueueClosed):
            await waiting
        store.gate.set()
        assert isinstance(await running, Recorded)
        await closing
        assert store.written == ["running"]
        assert queue.counters.committed.rejected["closed"] == 1


async def test_closing_twice_is_harmless() -> None:
    async with told_queue() as queue:
        await queue.submit(intent())
        assert await queue.drain(1.0) == 0
        await queue.close()
        await queue.close()
        with pytest.raises(QueueClosed):
            await queue.submit(intent())
        await until(lambda: not queue.depth("committed"))
