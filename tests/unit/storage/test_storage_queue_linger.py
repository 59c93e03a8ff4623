"""What nobody waits for stays a little, so that the next call's batch takes it along."""

from __future__ import annotations

import asyncio
import time

from storage_queue_setup import ToldStore, intent, outcome, told_queue, until

from storage.pump import LINGER_ENTRIES_MAX, LINGER_NS


def hand_over(queue, entry) -> str:  # type: ignore[no-untyped-def]
    queue.enqueue(entry, queue.reserve())
    return str(entry.receipt.event_id)


async def test_an_outcome_rides_in_the_next_calls_batch() -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        rider = hand_over(queue, outcome())
        await asyncio.sleep(LINGER_NS / 4e9)
        assert store.batches == []
        call = intent()
        await queue.submit(call)
        assert store.batches == [[call.receipt.event_id, rider]]


async def test_an_outcome_alone_is_written_all_the_same() -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        started = time.perf_counter()
        rider = hand_over(queue, outcome())
        await until(lambda: store.batches == [[rider]])
        assert time.perf_counter() - started >= LINGER_NS / 1e9 * 0.5


async def test_many_outcomes_do_not_linger() -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        started = time.perf_counter()
        names = [hand_over(queue, outcome()) for _ in range(LINGER_ENTRIES_MAX)]
        await until(lambda: sum(map(len, store.batches)) == len(names))
        assert time.perf_counter() - started < LINGER_NS / 1e9


async def test_a_drain_does_not_linger() -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        hand_over(queue, outcome())
        started = time.perf_counter()
        assert await queue.drain(5.0) == 0
        assert time.perf_counter() - started < LINGER_NS / 1e9
