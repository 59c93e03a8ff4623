"""What nobody waits for stays a little, so that the next call's batch takes it along."""

from __future__ import annotations

import asyncio
import time

import pytest
from storage_queue_setup import ToldStore, intent, outcome, told_queue, until

from storage.linger import LINGER_ENTRIES_MAX, LINGER_NS
from storage.pump import Pump
from storage.records import Entry
from storage.waiters import Waiter


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


async def test_what_lingers_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = Pump._next_batch

    def counted(self: Pump) -> tuple[list[Waiter], list[Entry]]:
        nonlocal looks
        looks += 1
        return look(self)

    store = ToldStore()
    async with told_queue(store) as queue:
        await asyncio.sleep(0)  # it looked once, and sleeps
        monkeypatch.setattr(Pump, "_next_batch", counted)
        names = []
        for _ in range(10):
            names.append(hand_over(queue, outcome()))
            await asyncio.sleep(0)
        assert looks == 0
        await until(lambda: store.batches == [names])
        assert looks > 0, "positive control"


async def test_each_that_lingers_has_its_own_time() -> None:
    """The timer of the first still runs when a call has taken that one along."""
    store = ToldStore()
    async with told_queue(store) as queue:
        hand_over(queue, outcome())
        await asyncio.sleep(LINGER_NS / 2e9)
        await queue.submit(intent())
        started = time.perf_counter()
        second = hand_over(queue, outcome())
        await until(lambda: store.batches[-1] == [second])
        assert LINGER_NS / 1e9 * 0.9 <= time.perf_counter() - started < 5 * LINGER_NS / 1e9
