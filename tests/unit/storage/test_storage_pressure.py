"""The numbers an operator sees: rate, utilisation, the nearer limit, room, and the sentence."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from storage_load_setup import make_call, one_call, queue_on
from storage_queue_setup import ToldStore

from storage.calibrate import LEVELS, all_durable, calibrate, calibrate_for
from storage.errors import StoreFull, StoreUnavailable
from storage.pressure import Point, Pressure, Rate
from storage.write_queue import WriteQueue

A, B = 0.0005, 0.00005
CEILING = 1 / (A / 256 + B)


class Machine:
    """Time and the CPU time of the loop's thread, by hand."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.cpu_s = 0.0

    def now_ns(self) -> int:
        return int(self.now_s * 1e9)

    def cpu_ns(self) -> int:
        return int(self.cpu_s * 1e9)

    def pressure(self) -> Pressure:
        return Pressure(
            batch_entries_max=512,
            monotonic_ns=self.now_ns,
            loop_cpu_ns=self.cpu_ns,
            seeds=[Point(n, A + B * n) for n in (1, 8, 64, 256)],
        )

    def serve(
        self, pressure: Pressure, calls_per_s: float, busy: float, seconds: float = 10.0
    ) -> None:
        """Batches of ten calls at that rate, with the loop so busy."""
        step_s = 10 / calls_per_s
        for turn in range(int(seconds / step_s)):
            self.now_s += step_s
            self.cpu_s += step_s * busy
            pressure.observe(20, A + B * 10)
            if turn % int(1 + 1 / step_s) == 0:
                pressure.tick()


@pytest.mark.parametrize("share", [0.03, 0.5, 1.0])
def test_utilisation_is_the_rate_over_the_ceiling(share: float) -> None:
    machine = Machine()
    pressure = machine.pressure()
    machine.serve(pressure, share * CEILING, 0.1)
    snapshot = pressure.snapshot()
    assert snapshot.ceiling_calls_per_s == pytest.approx(CEILING, rel=0.01)
    assert snapshot.utilisation == pytest.approx(share, rel=0.05)
    assert snapshot.committed_calls_per_s == pytest.approx(share * CEILING, rel=0.05)
    assert snapshot.largest_batch_calls == 256
    # Busy is what batches of ten make of it: far from the truth, in either direction.
    assert snapshot.writer_busy == pytest.approx(min(1, share * CEILING / 10 * 0.001), rel=0.1)


@pytest.mark.parametrize(
    ("share", "busy", "nearest", "words"),
    [
        (0.03, 0.41, "process", "the nearer limit is the process (event loop 41% busy)."),
        (0.30, 0.10, "store", "it is the nearer limit (event loop 10% busy)."),
        (0.90, 0.20, "store", "near: calls begin to wait"),
        (0.10, 0.95, "process", "near: calls begin to wait"),
    ],
)
def test_the_sentence_names_the_nearer_limit(
    share: float, busy: float, nearest: str, words: str
) -> None:
    machine = Machine()
    pressure = machine.pressure()
    machine.serve(pressure, share * CEILING, busy)
    snapshot = pressure.snapshot()
    assert snapshot.nearest_limit == nearest
    assert words in snapshot.sentence
    assert f"{snapshot.ceiling_calls_per_s:,.0f} calls/s" in snapshot.sentence
    assert snapshot.loop_busy == pytest.approx(busy, rel=0.05)
    room = snapshot.committed_calls_per_s / (snapshot.utilisation + snapshot.loop_busy)
    assert snapshot.room_calls_per_s == pytest.approx(
        max(0.0, room - snapshot.committed_calls_per_s), rel=0.01, abs=1
    )


@pytest.mark.parametrize("calls_per_s", [0.2, 1.0, 5.0])
def test_at_little_traffic_no_room_is_invented(calls_per_s: float) -> None:
    """The idle loop's own work must not be charged to a handful of calls."""
    machine = Machine()
    pressure = machine.pressure()
    machine.serve(pressure, calls_per_s, 0.003)
    snapshot = pressure.snapshot()
    assert "room" not in snapshot.sentence
    assert "nothing is near a limit" in snapshot.sentence
    assert "nearer limit" not in snapshot.sentence
    assert snapshot.room_calls_per_s == pytest.approx(CEILING, rel=0.02)


def test_before_anything_is_known_it_says_so() -> None:
    machine = Machine()
    pressure = Pressure(
        batch_entries_max=512, monotonic_ns=machine.now_ns, loop_cpu_ns=machine.cpu_ns
    )
    snapshot = pressure.snapshot()
    assert snapshot.ceiling_calls_per_s == snapshot.utilisation == 0.0
    assert "not known" in snapshot.sentence
    calibrated = machine.pressure().snapshot()
    assert calibrated.room_calls_per_s == pytest.approx(CEILING, rel=0.01)


def test_a_rate_forgets_what_is_past() -> None:
    machine = Machine()
    rate = Rate(machine.now_ns)
    for _ in range(100):
        machine.now_s += 0.1
        rate.add(5, machine.now_s)
    assert rate.per_s() == pytest.approx(50, rel=0.05)
    machine.now_s += 2.5
    assert rate.per_s() == pytest.approx(25, rel=0.1)
    machine.now_s += 3
    assert rate.per_s() == 0.0


@pytest.mark.serial
async def test_the_calibration_is_short_and_gives_a_point_per_level(tmp_path: Path) -> None:
    async with queue_on(tmp_path / "scratch.db") as queue:
        store = queue._pump._store
        started = time.perf_counter()
        measured = await calibrate(store, queue._pump._seal, make_call, time.perf_counter_ns)
        took = time.perf_counter() - started
    assert len(measured.points) == len(LEVELS)
    assert [point.calls for point in measured.points] == sorted(p.calls for p in measured.points)
    assert measured.points[0].calls == pytest.approx(1, abs=0.6)
    assert measured.points[-1].calls == pytest.approx(256, rel=0.05)
    assert all(point.seconds > 0 for point in measured.points)
    assert 0 <= measured.handover_s < 0.001
    assert took < 2.0


@pytest.mark.serial
async def test_a_longer_calibration_is_the_middle_of_its_rounds(tmp_path: Path) -> None:
    async with queue_on(tmp_path / "scratch.db") as queue:
        store, seal = queue._pump._store, queue._pump._seal
        started = time.perf_counter()
        measured = await calibrate_for(store, seal, make_call, time.perf_counter_ns, 1.0)
        took = time.perf_counter() - started
        once = await calibrate_for(store, seal, make_call, time.perf_counter_ns, 0.0)
    assert 1.0 <= took < 4.0
    for calibration in (measured, once):
        assert len(calibration.points) == len(LEVELS)
        assert calibration.points[-1].calls == pytest.approx(256, rel=0.05)


async def test_a_store_that_fails_cannot_be_calibrated() -> None:
    store = ToldStore()
    store.is_broken = StoreFull()
    with pytest.raises(StoreFull):
        await calibrate(store, lambda heads, drafts: None, make_call, time.perf_counter_ns)  # type: ignore[arg-type,return-value]


async def test_what_does_not_become_durable_is_not_waited_for_to_the_end() -> None:
    for error in (None, StoreFull()):
        store = ToldStore()
        store.is_broken = error
        queue = WriteQueue(
            store, lambda heads, drafts: None, capacity=8, wait_s=5,  # type: ignore[arg-type,return-value]
            monotonic_ns=time.monotonic_ns,
        )  # fmt: skip
        began = time.monotonic()
        try:
            queue.enqueue(make_call()[1], queue.reserve())
            if error is None:
                await all_durable(queue)
                assert len(store.batches) == 1, "control"
            else:
                with pytest.raises(StoreUnavailable, match="store_full"):
                    await all_durable(queue)
        finally:
            await queue.close()
        assert time.monotonic() - began < 5


async def test_the_queue_feeds_the_pressure(tmp_path: Path) -> None:
    pressure = Pressure(
        batch_entries_max=512,
        monotonic_ns=time.perf_counter_ns,
        loop_cpu_ns=time.thread_time_ns,
        window_s=1.0,
    )
    async with queue_on(tmp_path / "a.db", pressure.observe) as queue:
        for _ in range(5):
            await asyncio.gather(*(one_call(queue, make_call()) for _ in range(40)))
        await queue.drain(5.0)
        pressure.tick()
        snapshot = pressure.snapshot()
    assert snapshot.ceiling_calls_per_s > 100
    assert snapshot.committed_calls_per_s > 50
    assert snapshot.utilisation > 0
    assert 0 < snapshot.loop_busy <= 1


def test_a_ceiling_is_never_below_what_is_done() -> None:
    machine = Machine()
    pressure = machine.pressure()
    machine.serve(pressure, 1.5 * CEILING, 0.5)
    snapshot = pressure.snapshot()
    assert snapshot.utilisation == pytest.approx(1.0)
    assert snapshot.ceiling_calls_per_s == pytest.approx(snapshot.committed_calls_per_s)
    assert snapshot.room_calls_per_s == 0.0
