"""Bounds and deadlines: full lanes, patience that ends, places that are used once (A5)."""

from __future__ import annotations

import asyncio
import time

import pytest
from storage_queue_setup import ToldStore, begin, intent, outcome, told_queue, until

from storage.errors import QueueFull, QueueTimeout
from storage.records import Entry, Recorded


async def test_a5_a_full_lane_refuses_at_once_and_frees_itself() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, capacity=5) as queue:
        tasks = [begin(queue, intent()) for _ in range(5)]
        await store.entered.wait()
        started = time.perf_counter()
        for _ in range(100):
            with pytest.raises(QueueFull):
                await queue.submit(intent())
        assert time.perf_counter() - started < 0.1
        assert queue.counters.committed.rejected["full"] == 100
        assert queue.counters.committed.accepted == 5
        store.gate.set()
        await asyncio.gather(*tasks)
        assert isinstance(await queue.submit(intent()), Recorded)


async def test_a5_a_waiter_whose_time_is_up_is_told_and_never_written() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, wait_s=0.05) as queue:
        running = begin(queue, intent(call_id="running"))
        await store.entered.wait()
        waiting = begin(queue, intent(call_id="waiting"))
        started = time.perf_counter()
        with pytest.raises(QueueTimeout):
            await waiting
        with pytest.raises(QueueTimeout):
            await running
        assert time.perf_counter() - started < 0.5
        assert queue.depth("committed") == 1
        store.gate.set()
        assert isinstance(await queue.submit(intent(call_id="after")), Recorded)
        assert store.written == ["running", "after"]
        assert queue.counters.committed.rejected["timeout"] == 2


async def test_a_late_commit_is_reported_as_abandoned() -> None:
    store = ToldStore()
    store.gate.clear()
    abandoned: list[tuple[Entry, Recorded]] = []
    async with told_queue(
        store, wait_s=0.03, on_abandoned=lambda *args: abandoned.append(args)
    ) as queue:
        entry = intent()
        with pytest.raises(QueueTimeout):
            await queue.submit(entry)
        assert abandoned == []
        store.gate.set()
        await until(lambda: abandoned)
        assert abandoned[0][0] is entry
        assert isinstance(abandoned[0][1], Recorded)
        assert queue.counters.abandoned == 1


async def test_under_a_dead_store_every_caller_is_refused_in_time() -> None:
    store = ToldStore()
    store.gate.clear()
    slowest = 0.0
    async with told_queue(store, capacity=50, wait_s=0.1) as queue:

        async def caller() -> None:
            nonlocal slowest
            for _ in range(5):
                started = time.perf_counter()
                with pytest.raises((QueueFull, QueueTimeout)):
                    await queue.submit(intent())
                slowest = max(slowest, time.perf_counter() - started)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(caller() for _ in range(200)))
        assert slowest < 0.6
        assert queue.depth("committed") <= 50
        rejected = queue.counters.committed.rejected
        assert rejected["full"] + rejected["timeout"] == 1000
        assert rejected["full"] and rejected["timeout"]


async def test_one_timer_serves_all_waiters() -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        loop = asyncio.get_running_loop()
        timers: list[float] = []
        call_later = loop.call_later

        def counting(delay: float, *args: object) -> asyncio.TimerHandle:
            timers.append(delay)
            return call_later(delay, *args)  # type: ignore[arg-type]

        loop.call_later = counting  # type: ignore[assignment, method-assign]
        for _ in range(20):
            await asyncio.gather(*(queue.submit(intent()) for _ in range(50)))
        del loop.call_later  # type: ignore[attr-defined]
        assert len(timers) == 1


async def test_the_oldest_age_is_that_of_who_waits_longest() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store) as queue:
        assert queue.oldest_age_s() == 0.0
        task = begin(queue, intent())
        await asyncio.sleep(0.02)
        later = begin(queue, intent())
        await asyncio.sleep(0)
        assert 0.015 < queue.oldest_age_s() < 1.0
        store.gate.set()
        await asyncio.gather(task, later)
        assert queue.oldest_age_s() == 0.0


async def test_places_bound_the_queued_lane() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, capacity=3) as queue:
        slots = [queue.reserve() for _ in range(3)]
        with pytest.raises(QueueFull):
            queue.reserve()
        for slot in slots[:2]:
            queue.enqueue(outcome(), slot)
        with pytest.raises(QueueFull):
            queue.reserve()
        assert slots[2].release()
        queue.reserve().release()
        assert queue.counters.queued.rejected["full"] == 2
        assert queue.reserved == 0
        store.gate.set()
        await until(lambda: queue.depth("queued") == 0)
        for _ in range(3):
            queue.reserve()


async def test_a_place_is_used_once() -> None:
    async with told_queue() as queue:
        slot = queue.reserve()
        queue.enqueue(outcome(), slot)
        with pytest.raises(ValueError, match="used"):
            queue.enqueue(outcome(), slot)
        assert not slot.release()
        assert queue.reserved == 0


async def test_only_what_may_be_retried_can_be_handed_over() -> None:
    async with told_queue() as queue:
        slot = queue.reserve()
        with pytest.raises(ValueError, match="closes"):
            queue.enqueue(intent(), slot)
        queue.enqueue(outcome(), slot)
