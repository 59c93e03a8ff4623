"""Commit times by batch size, the largest useful batch, and calls offered on a schedule."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from storage_load_setup import make_call, queue_on

from sidecar.ledger.chain import seal
from storage import SqlStore, open_store
from storage.calibrate import LEVELS, calibrate, engine_settings
from storage.commit_times import CommitTime, largest_useful_batch, time_commits
from storage.errors import StoreError, StoreFull
from storage.open_loop import offer, quantile
from storage.records import Answer, Entry, Recorded, Unrecordable
from storage.write_queue import WriteQueue


class MadeUpStore:
    """A commit takes `fixed_s` and `per_call_s` per intent, asleep; `fate` may answer otherwise."""

    def __init__(self, fixed_s: float, per_call_s: float, fate: Answer | None = None) -> None:
        self.fixed_s, self.per_call_s, self.fate = fixed_s, per_call_s, fate
        self.sizes: list[tuple[int, int]] = []
        #: Once so many calls were taken, one commit takes so much longer.
        self.stall_after, self.stall_s = 0, 0.0
        self.error: StoreError | None = None

    async def record(self, entries: Sequence[Entry], seal: Any) -> list[Answer]:
        if self.error is not None:
            raise self.error
        intents = sum(entry.opens is not None for entry in entries)
        self.sizes.append((intents, len(entries) - intents))
        stall_s = 0.0
        if sum(size for size, _ in self.sizes) >= self.stall_after:
            stall_s, self.stall_s = self.stall_s, 0.0
        await asyncio.sleep(self.fixed_s + self.per_call_s * intents + stall_s)
        return [self.fate or Recorded(1, "", 1, 0)] * len(entries)

    async def after_commit(self) -> None:
        return

    async def probe(self) -> None:
        return


def queue_over(store: MadeUpStore, capacity: int = 8192) -> WriteQueue:
    return WriteQueue(
        store, seal, capacity=capacity, wait_s=10.0, monotonic_ns=time.perf_counter_ns
    )


async def test_each_size_commits_its_calls_and_the_outcomes_of_those_before() -> None:
    store = MadeUpStore(0.002, 0.000_05)
    times = await time_commits(
        store, seal, make_call, time.perf_counter_ns, 0.4, sizes=(1, 16, 128)
    )
    assert [one.calls for one in times] == [1, 16, 128]
    assert store.sizes[:3] == [(1, 0), (16, 0), (128, 0)]
    assert set(store.sizes[3:]) == {(1, 1), (16, 16), (128, 128)}
    for one in times:
        expected_s = 0.002 + 0.000_05 * one.calls
        assert one.commits >= 2
        assert expected_s <= one.p50_s < 2 * expected_s + 0.003
        assert one.p50_s <= one.p99_s


async def test_on_a_real_store_the_receipts_are_chained_and_the_intents_closed(
    tmp_path: Path,
) -> None:
    store: SqlStore = await open_store(f"sqlite:///{tmp_path}/a.db", now_us=lambda: 1)
    try:
        times = await time_commits(store, seal, make_call, time.perf_counter_ns, 0.2, sizes=(1, 32))
        head = await store.head("load")
        recorded = sum(2 * one.calls * one.commits for one in times) + 33
        assert head.seq == recorded
        settings = await engine_settings(store)
    finally:
        await store.close()
    assert all(0 < one.p50_s < 1 for one in times)
    assert settings["synchronous"] == "full"
    assert settings["journal_mode"] == "wal"
    assert int(settings["page_size"]) >= 512


async def test_what_is_not_recorded_is_not_measured() -> None:
    with pytest.raises(StoreError, match="not recorded as a whole"):
        await time_commits(
            MadeUpStore(0, 0, Unrecordable("no")), seal, make_call, time.perf_counter_ns, 0.1
        )


def at(calls: int, p50_s: float) -> CommitTime:
    return CommitTime(calls, 200, p50_s, 2 * p50_s)


@pytest.mark.parametrize(("times", "useful"), [
    ([], 0),
    ([at(1, 0.001)], 1),
    # A slow disk: each doubling nearly doubles the rate, the largest is the useful one.
    ([at(n, 0.05 + n * 0.00001) for n in (1, 16, 64, 256, 512)], 512),
    # A quick one: 64 calls reach nine tenths of what can be had.
    ([at(n, 0.0003 + n * 0.00005) for n in (1, 16, 64, 256, 512)], 64),
    # Beyond what the caches hold it becomes slower again.
    ([at(64, 0.004), at(256, 0.010), at(512, 0.040)], 256),
])  # fmt: skip
def test_the_largest_useful_batch(times: list[CommitTime], useful: int) -> None:
    assert largest_useful_batch(times) == useful


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.9, 9), (0.99, 10), (1.0, 10)])
def test_quantiles(share: float, value: float) -> None:
    assert quantile(list(range(1, 11)), share) == value
    assert quantile([], share) == 0.0


# -- open loop -------------------------------------------------------------------------------


async def test_calls_arrive_on_schedule_and_are_all_recorded(tmp_path: Path) -> None:
    async with queue_on(tmp_path / "a.db") as queue:
        calls = [make_call() for _ in range(500)]
        ends: list[float] = []
        started = time.perf_counter()
        served = await offer(
            queue,
            calls,
            1000.0,
            time.perf_counter_ns,
            lambda: ends.append(time.perf_counter() - started),
        )
        assert await queue.drain(5.0) == 0
        head = await queue._pump._store.head("load")  # type: ignore[attr-defined]
    assert (calls, served.refused, head.seq) == ([], 0, 1000)
    assert ends[0] == pytest.approx(0.5, abs=0.2)
    assert served.committed_calls_per_s == pytest.approx(1000, rel=0.25)
    assert 0 < served.p50_s <= served.p99_s < 1


async def test_a_stall_counts_for_every_call_that_was_due_meanwhile() -> None:
    """A closed loop would see one slow call; those due during the stall have waited as well."""
    store = MadeUpStore(0.001, 0.0)
    queue = queue_over(store)
    try:
        quick = await offer(queue, [make_call() for _ in range(400)], 1000.0, time.perf_counter_ns)
        calls = [make_call() for _ in range(400)]
        # By what was committed, not by the clock: on a busy machine the offering begins late.
        store.stall_after, store.stall_s = sum(size for size, _ in store.sizes) + 200, 0.15
        slow = await offer(queue, calls, 1000.0, time.perf_counter_ns)
    finally:
        await queue.close()
    assert quick.p50_s < 0.05
    assert 0.1 < slow.p99_s < 1.0


async def test_a_blocked_process_makes_the_calls_late_not_fewer() -> None:
    queue = queue_over(MadeUpStore(0.001, 0.0))
    calls = [make_call() for _ in range(400)]
    asyncio.get_running_loop().call_later(0.1, time.sleep, 0.28)
    try:
        served = await offer(queue, calls, 1000.0, time.perf_counter_ns)
    finally:
        await queue.close()
    # Most calls were due meanwhile; counted from when they could leave, they would look quick.
    assert served.p50_s > 0.05


async def test_what_the_queue_refuses_is_counted() -> None:
    queue = queue_over(MadeUpStore(0.05, 0.0), capacity=20)
    try:
        served = await offer(queue, [make_call() for _ in range(300)], 1500.0, time.perf_counter_ns)
        assert await queue.drain(5.0) == 0
    finally:
        await queue.close()
    assert 0 < served.refused < 300
    assert queue.reserved == 0


async def test_a_store_that_fails_ends_it() -> None:
    store = MadeUpStore(0.001, 0.0)
    store.error = StoreFull()
    queue = queue_over(store)
    try:
        with pytest.raises(StoreFull):
            await offer(queue, [make_call() for _ in range(50)], 500.0, time.perf_counter_ns)
    finally:
        await queue.close()
    assert queue.reserved == 0


async def test_a_process_that_stood_still_meanwhile_is_measured_all_the_same() -> None:
    """On a busy machine the time to watch may be over before the first caller has begun."""
    ticks = itertools.count(1)
    calibration = await calibrate(
        MadeUpStore(0.0, 0.0), seal, make_call, lambda: next(ticks) * 3_000_000_000
    )
    assert len(calibration.points) == len(LEVELS)
    assert all(point.calls > 0 for point in calibration.points)
