"""A store that fails: fail closed, keep what nobody waits for, look up the unknown, recover."""

from __future__ import annotations

import asyncio
import time

import pytest
from storage_queue_setup import ToldStore, begin, intent, outcome, told_queue, until

from storage.errors import (
    CommitUnknown,
    QueueTimeout,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnsupportedStore,
)
from storage.health import Health
from storage.queue_counters import QueueCounters
from storage.records import AlreadyClosed, Entry, Recorded, Unrecordable
from storage.write_queue import WriteQueue


async def test_a_failed_batch_fails_all_its_waiters_each_with_its_own_error() -> None:
    store = ToldStore()
    store.failures = [StoreFull("no space")]
    async with told_queue(store) as queue:
        errors = await asyncio.gather(
            *(queue.submit(intent()) for _ in range(5)), return_exceptions=True
        )
        assert [type(error) for error in errors] == [StoreFull] * 5
        assert {str(error) for error in errors} == {"no space"}
        assert len({id(error) for error in errors}) == 5
        assert not queue.healthy
        assert queue.counters.failed_batches == 1
        assert queue.counters.committed.rejected["error"] == 5
        assert queue.counters.last_error_code == "store_full"
        assert isinstance(await queue.submit(intent()), Recorded)
        assert queue.healthy


async def test_of_failures_in_a_row_each_kind_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first often says only that a connection was lost, and the next why there is no other."""

    def told() -> list[str]:
        said = [record.detail for record in caplog.records if hasattr(record, "detail")]
        caplog.clear()
        return said

    async def nothing() -> None:
        return None

    health = Health(nothing, QueueCounters(), lambda: 0)
    lost, password = CommitUnknown("the connection was lost"), UnsupportedStore("no such password")
    for _ in range(3):
        health.failed(lost)
        health.failed(password)
    assert told() == [str(lost), str(password)]
    health.succeeded()
    health.failed(password)
    assert told() == [str(password)], "it was well in between"


async def test_what_nobody_waits_for_survives_failures_and_is_written() -> None:
    store = ToldStore()
    store.failures = [StoreBusy(), StoreFull()]
    entries = [outcome(f"call{n}") for n in range(20)]
    async with told_queue(store) as queue:
        for entry in entries:
            queue.enqueue(entry, queue.reserve())
        await until(lambda: len(store.written) == 20)
        assert sorted(store.written) == sorted(entry.receipt.event_id for entry in entries)
        assert queue.healthy
        assert queue.depth("queued") == 0
        assert queue.counters.dropped_outcomes == 0


async def test_idle_and_unhealthy_it_recovers_by_itself() -> None:
    store = ToldStore()
    store.is_broken = StoreFull()
    async with told_queue(store) as queue:
        with pytest.raises(StoreFull):
            await queue.submit(intent())
        await until(lambda: store.probes >= 1)
        assert not queue.healthy
        store.is_broken = None
        await until(lambda: queue.healthy, 3.0)
        assert store.written == []


async def test_during_an_outage_callers_hear_the_cause_soon_and_the_store_has_peace() -> None:
    store = ToldStore()
    store.is_broken = StoreFull()
    async with told_queue(store, wait_s=2.0) as queue:
        ended = time.perf_counter() + 1.0
        slowest = 0.0

        async def caller() -> None:
            nonlocal slowest
            while (started := time.perf_counter()) < ended:
                with pytest.raises(StoreFull):
                    await queue.submit(intent())
                slowest = max(slowest, time.perf_counter() - started)

        await asyncio.gather(*(caller() for _ in range(20)))
        assert slowest < 0.5
        assert len(store.attempts) < 20
        store.is_broken = None
        assert isinstance(await queue.submit(intent()), Recorded)


async def test_a_poisoned_outcome_breaks_nobodys_call_and_is_never_lost() -> None:
    store = ToldStore()
    poisoned = outcome("poisoned")
    store.breaks_on = lambda e: StoreError("cannot") if e.closes == "poisoned" else None
    async with told_queue(store) as queue:
        for entry in [*(outcome() for _ in range(6)), poisoned, *(outcome() for _ in range(6))]:
            queue.enqueue(entry, queue.reserve())
        await until(lambda: len(store.written) == 12)
        for _ in range(30):
            assert isinstance(await queue.submit(intent()), Recorded)
        assert queue.depth("queued") == 1
        await until(lambda: queue.healthy)
        store.breaks_on = lambda e: None
        await until(lambda: queue.depth("queued") == 0)
        assert poisoned.receipt.event_id in store.written


async def test_an_outcome_the_store_cannot_record_is_counted() -> None:
    store = ToldStore()
    store.answer = lambda entry: Unrecordable("no")
    async with told_queue(store) as queue:
        queue.enqueue(outcome(), queue.reserve())
        await until(lambda: queue.counters.dropped_outcomes == 1)
        assert queue.counters.queued.rejected["error"] == 1
        assert queue.healthy


class Ledger:
    """What a lookup finds, and what was reported."""

    def __init__(self) -> None:
        self.durable: set[str] = set()
        self.asked: list[str] = []
        self.abandoned: list[str] = []
        self.failures: list[StoreError] = []

    async def lookup(self, entry: Entry) -> Recorded | None:
        self.asked.append(entry.receipt.event_id)
        if self.failures:
            raise self.failures.pop(0)
        return Recorded(9, "h", 1, 0) if entry.receipt.event_id in self.durable else None

    def on_abandoned(self, entry: Entry, recorded: Recorded) -> None:
        self.abandoned.append(entry.receipt.event_id)


async def test_a14_an_unknown_commit_is_looked_up_and_never_taken_for_a_yes() -> None:
    store, ledger = ToldStore(), Ledger()
    store.failures = [CommitUnknown()]
    ledger.durable = {"here"}
    ledger.failures = [StoreUnavailable()]
    refusal = intent(call_id="refusal")
    refusal.opens = None
    async with told_queue(store, lookup=ledger.lookup, on_abandoned=ledger.on_abandoned) as queue:
        results = await asyncio.gather(
            queue.submit(intent(call_id="here")),
            queue.submit(intent(call_id="gone")),
            queue.submit(refusal),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [CommitUnknown] * 3
        assert ledger.asked == []
        await until(lambda: ledger.asked == ["here", "here", "gone"])
        await until(lambda: queue.counters.unknown == 0)
        assert ledger.abandoned == ["here"]
        assert store.written == []


async def test_a14_an_outcome_of_an_unknown_commit_is_retried_and_found_closed() -> None:
    store = ToldStore()
    store.failures = [CommitUnknown()]
    store.answer = lambda entry: AlreadyClosed("call")
    async with told_queue(store) as queue:
        queue.enqueue(outcome("call"), queue.reserve())
        await until(lambda: queue.depth("queued") == 0)
        assert len(store.attempts) == 2
        assert queue.counters.dropped_outcomes == 0


async def test_a14_lookups_do_not_pile_up_without_bound() -> None:
    store, ledger = ToldStore(), Ledger()
    store.is_broken = CommitUnknown()
    async with told_queue(store, capacity=10, lookup=ledger.lookup) as queue:
        codes = set()
        for _ in range(20):
            results = await asyncio.gather(
                *(queue.submit(intent()) for _ in range(5)), return_exceptions=True
            )
            codes |= {getattr(result, "code", "recorded") for result in results}
        assert codes == {"commit_unknown", "store_unavailable"}
        assert queue.counters.unknown == 10
        store.is_broken = None
        await until(lambda: len(ledger.asked) == 10)
        assert isinstance(await queue.submit(intent()), Recorded)


async def test_a5_a_fault_in_the_writer_tells_everybody_and_refuses_for_good() -> None:
    store = ToldStore()
    store.gate.clear()

    def on_batch(entries: int, seconds: float) -> None:
        raise KeyError("a fault of ours")

    async with told_queue(store, on_batch=on_batch) as queue:
        running = begin(queue, intent())
        await store.entered.wait()
        waiting = [begin(queue, intent()) for _ in range(5)]
        await asyncio.sleep(0)
        store.gate.set()
        assert isinstance(await running, Recorded)
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, StoreUnavailable)
        assert not queue.healthy
        with pytest.raises(StoreUnavailable):
            await queue.submit(intent())
        with pytest.raises(StoreUnavailable):
            queue.reserve()
        assert queue.counters.last_error_code == "writer_stopped"
        assert await queue.drain(1.0) == 0


async def test_a5_a_hanging_commit_does_not_hold_up_the_end() -> None:
    store = ToldStore()
    store.gate.clear()
    queue: WriteQueue
    async with told_queue(store, wait_s=0.1) as queue:
        running = begin(queue, intent())
        await store.entered.wait()
        started = time.perf_counter()
        await queue.close()
        assert time.perf_counter() - started < 1.0
        with pytest.raises((CommitUnknown, QueueTimeout)):
            await running
