"""Callers who leave: what they left in the queue, and what became durable without them."""

from __future__ import annotations

import asyncio

import pytest
from storage_queue_setup import ToldStore, begin, intent, outcome, told_queue, until

from storage.errors import QueueFull, StoreFull
from storage.records import Entry, Recorded, RunHead, Stale


async def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store) as queue:
        staying = begin(queue, intent(call_id="staying"))
        await store.entered.wait()
        leaving = begin(queue, intent(call_id="leaving"))
        await asyncio.sleep(0)
        assert queue.depth("committed") == 2
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert queue.depth("committed") == 1
        store.gate.set()
        await staying
        await queue.submit(intent(call_id="next"))
        assert store.written == ["staying", "next"]
        assert queue.counters.abandoned == 0


async def test_who_leaves_during_the_commit_is_written_and_reported() -> None:
    store = ToldStore()
    store.gate.clear()
    abandoned: list[Entry] = []
    async with told_queue(store, on_abandoned=lambda e, r: abandoned.append(e)) as queue:
        entry = intent()
        leaving = begin(queue, entry)
        await store.entered.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert abandoned == []
        store.gate.set()
        await until(lambda: abandoned == [entry])
        assert store.written == [entry.receipt.event_id]


async def test_who_leaves_as_the_answer_arrives_is_reported_once() -> None:
    store = ToldStore()
    abandoned: list[Entry] = []
    entry = intent()
    async with told_queue(store, on_abandoned=lambda e, r: abandoned.append(e)) as queue:
        leaving: asyncio.Task[object]

        def answer_and_cancel(told: Entry) -> Recorded:
            # Runs before the waiter's future is resolved; the cancellation arrives after it,
            # in the same turn of the loop.
            asyncio.get_running_loop().call_soon(leaving.cancel)
            return Recorded(1, "h", 1, 0)

        store.answer = answer_and_cancel
        leaving = begin(queue, entry)
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert abandoned == [entry]


@pytest.mark.parametrize("what", ["stale", "failed"])
async def test_nothing_is_reported_of_what_did_not_become_durable(what: str) -> None:
    store = ToldStore()
    store.gate.clear()
    if what == "stale":
        store.answer = lambda entry: Stale(1, RunHead(1, ""))
    else:
        store.failures = [StoreFull()]
    abandoned: list[Entry] = []
    async with told_queue(store, on_abandoned=lambda e, r: abandoned.append(e)) as queue:
        leaving = begin(queue, intent())
        await store.entered.wait()
        leaving.cancel()
        store.gate.set()
        await until(lambda: queue.depth("committed") == 0)
        await asyncio.sleep(0.01)
        assert abandoned == []
        assert queue.counters.abandoned == 0


async def test_the_outcome_of_an_abandoned_intent_always_finds_a_place() -> None:
    store = ToldStore()
    store.gate.clear()

    async with told_queue(store, capacity=1) as queue:

        def close_it(entry: Entry, recorded: Recorded) -> None:
            queue.enqueue(outcome(str(entry.receipt.call_id)), queue.reserve())

        queue.on_abandoned = close_it
        taken = queue.reserve()
        leaving = begin(queue, intent(call_id="left"))
        await store.entered.wait()
        leaving.cancel()
        with pytest.raises(QueueFull):
            queue.reserve()
        draining = asyncio.get_running_loop().create_task(queue.drain(5.0))
        await asyncio.sleep(0)
        store.gate.set()
        await until(lambda: len(store.written) == 2)
        taken.release()
        assert await draining == 0
        assert store.written[0] == "left"
        assert store.written[1].startswith("outcome")


async def test_a_crowd_that_leaves_at_once_is_forgotten_at_once() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, capacity=5000) as queue:
        running = begin(queue, intent())
        await store.entered.wait()
        crowd = [begin(queue, intent(f"t{n % 7}")) for n in range(4000)]
        await asyncio.sleep(0)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert queue.depth("committed") == 1
        store.gate.set()
        await running
        assert len(store.written) == 1
