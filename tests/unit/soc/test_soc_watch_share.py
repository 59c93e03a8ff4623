"""The share of the event loop that watching takes is bounded, and its slices are short."""

from __future__ import annotations

import pytest

from sidecar.soc.watch_share import (
    CALLS_LINGER_NS,
    FAR_BEHIND_S,
    OTHERS_MIN,
    READ_ROW_NS,
    REST_MAX_S,
    ROOM_LATE_NS,
    SHARE_FAR_BEHIND,
    SHARE_IDLE,
    SHARE_WITH_CALLS,
    SHARE_WITH_ROOM,
    SLICE_NS,
    WINDOW_NS,
    Share,
)


class Machine:
    """Time, and what the loop's thread has computed, by hand."""

    def __init__(self) -> None:
        self.cpu_ns = 0
        self.now_ns = 0
        self.calls = 0
        #: What calls take of the loop while the watcher rests, and how long who wants it waits.
        self.others = 0.9
        self.late_ns = 0
        self.rests: list[float] = []
        self.share = Share(
            cpu_ns=lambda: self.cpu_ns,
            monotonic_ns=lambda: self.now_ns,
            calls=lambda: self.calls,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        if not seconds:
            self.now_ns += self.late_ns
            self.cpu_ns += int(self.late_ns * self.others)
            return
        self.rests.append(seconds)
        self.now_ns += int(seconds * 1e9)
        self.cpu_ns += int(seconds * 1e9 * self.others)


@pytest.mark.parametrize(
    ("calls", "behind_s", "share"),
    [
        (True, FAR_BEHIND_S + 1, SHARE_FAR_BEHIND),
        (False, 0.0, SHARE_IDLE),
        (False, FAR_BEHIND_S + 1, SHARE_IDLE),
    ],
)
async def test_after_each_slice_there_is_rest_for_the_share(
    calls: bool, behind_s: float, share: float
) -> None:
    machine = Machine()
    machine.now_ns = machine.cpu_ns = CALLS_LINGER_NS
    worked = await works(machine, 50, calls=calls, behind_s=behind_s)
    used = worked / (machine.now_ns - CALLS_LINGER_NS)
    assert used == pytest.approx(share, rel=0.02)
    assert machine.share.used_ns == worked


async def works(machine: Machine, slices: int, *, calls: bool, behind_s: float = 0.0) -> int:
    """So many whole slices, each with its rest; nanoseconds of work."""
    for _ in range(slices):
        machine.calls += calls
        machine.share.begin()
        machine.cpu_ns += SLICE_NS
        machine.now_ns += SLICE_NS
        assert machine.share.is_over()
        await machine.share.rest(behind_s)
    return slices * SLICE_NS


@pytest.mark.parametrize(("others", "held_to_be"), [(0.9, 0.9), (0.3, 0.3), (0.01, OTHERS_MIN)])
async def test_beside_calls_it_takes_a_share_of_what_they_compute_and_not_of_the_time(
    others: float, held_to_be: float
) -> None:
    """Where other programs take the core, time is no measure of what calls may lose."""
    machine = Machine()
    machine.others, machine.late_ns = others, ROOM_LATE_NS * 20
    await works(machine, 200, calls=True)
    before_ns, used_ns = machine.now_ns, machine.share.used_ns
    await works(machine, 50, calls=True)
    took = (machine.share.used_ns - used_ns) / (machine.now_ns - before_ns)
    longest = SLICE_NS / 1e9 / REST_MAX_S
    assert took <= max(SHARE_WITH_CALLS * held_to_be, longest) * 1.05
    assert machine.share.share(0.0) == pytest.approx(SHARE_WITH_CALLS * held_to_be, rel=0.1)


async def test_reading_counts_as_work_and_no_rest_is_endless() -> None:
    machine = Machine()
    machine.calls = 1
    machine.share.begin()
    await machine.share.rest(0.0, rows_read=10)
    times = (1 - SHARE_WITH_CALLS) / SHARE_WITH_CALLS
    assert machine.rests[0] == pytest.approx(10 * READ_ROW_NS / 1e9 * times)
    machine.cpu_ns += 10**12
    await machine.share.rest(0.0)
    assert machine.rests[1] == REST_MAX_S


async def test_the_last_slice_of_a_page_is_rested_for_before_the_next() -> None:
    machine = Machine()
    machine.calls = 1
    machine.share.begin()
    machine.cpu_ns += 1_000
    machine.share.end()
    machine.share.begin()
    machine.cpu_ns += 1_000
    await machine.share.rest(0.0)
    times = (1 - SHARE_WITH_CALLS) / SHARE_WITH_CALLS
    assert machine.rests == [pytest.approx(2_000 / 1e9 * times)]


async def test_what_others_compute_between_slices_is_not_its_work() -> None:
    machine = Machine()
    machine.share.begin()
    machine.cpu_ns += 1_000
    machine.share.end()
    machine.cpu_ns += 10**9
    machine.share.begin()
    assert not machine.share.is_over()
    assert machine.share.used_ns == 1_000


@pytest.mark.parametrize(
    ("others", "late_ns", "share"),
    [
        (0.1, 0, SHARE_WITH_ROOM),
        (0.6, 0, SHARE_WITH_CALLS * 0.6),
        (0.1, ROOM_LATE_NS * 2, SHARE_WITH_CALLS * 0.1),  # the loop is kept from computing
    ],
)
async def test_calls_that_leave_the_loop_room_let_it_have_more(
    others: float, late_ns: int, share: float
) -> None:
    machine = Machine()
    machine.others, machine.late_ns = others, late_ns
    for _ in range(20):
        machine.calls += 1
        machine.now_ns += WINDOW_NS
        machine.cpu_ns += int(others * WINDOW_NS)
        machine.share.begin()
        machine.cpu_ns += SLICE_NS
        await machine.share.rest(0.0)
    assert machine.share.share(0.0) == pytest.approx(share, rel=0.05)
