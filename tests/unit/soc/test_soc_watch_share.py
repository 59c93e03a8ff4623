"""The share of the event loop that watching takes is bounded, and its slices are short."""

from __future__ import annotations

import pytest

from sidecar.soc.watch_share import (
    CALLS_LINGER_NS,
    FAR_BEHIND_S,
    READ_ROW_NS,
    REST_MAX_S,
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
        #: What calls take of the loop while the watcher rests.
        self.others = 0.9
        self.rests: list[float] = []
        self.share = Share(
            cpu_ns=lambda: self.cpu_ns,
            monotonic_ns=lambda: self.now_ns,
            calls=lambda: self.calls,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now_ns += int(seconds * 1e9)
        self.cpu_ns += int(seconds * 1e9 * self.others)


@pytest.mark.parametrize(
    ("calls", "behind_s", "share"),
    [
        (True, 0.0, SHARE_WITH_CALLS),
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
    worked = 0
    for _ in range(50):
        machine.calls += calls
        machine.share.begin()
        machine.cpu_ns += SLICE_NS
        machine.now_ns += SLICE_NS
        worked += SLICE_NS
        assert machine.share.is_over()
        await machine.share.rest(behind_s)
    used = worked / (machine.now_ns - CALLS_LINGER_NS)
    assert used == pytest.approx(share, rel=0.02)
    assert machine.share.used_ns == worked


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


async def test_what_others_compute_between_slices_is_not_its_work() -> None:
    machine = Machine()
    machine.share.begin()
    machine.cpu_ns += 1_000
    machine.share.end()
    machine.cpu_ns += 10**9
    machine.share.begin()
    assert not machine.share.is_over()
    assert machine.share.used_ns == 1_000


@pytest.mark.parametrize(("others", "share"), [(0.1, SHARE_WITH_ROOM), (0.6, SHARE_WITH_CALLS)])
async def test_calls_that_leave_the_loop_room_let_it_have_more(others: float, share: float) -> None:
    machine = Machine()
    for _ in range(4):
        machine.calls += 1
        machine.now_ns += WINDOW_NS
        machine.cpu_ns += int(others * WINDOW_NS)
        machine.share.begin()
        machine.cpu_ns += SLICE_NS
        await machine.share.rest(0.0)
    assert machine.share.share(0.0) == share
