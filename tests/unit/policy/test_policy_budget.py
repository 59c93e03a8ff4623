"""Buckets that a store keeps as text: sums over a window that slides, and rates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.budget import SLOTS, Over, Taken, take
from sidecar.policy.gcra import ask, pace
from sidecar.policy.reasons import Reason
from sidecar.policy.terms import Charge

START_US = 1_767_607_200_000_000
HOUR_US = 3_600_000_000


def charge(
    amount: int, most: int = 100, window_us: int = HOUR_US, *, is_sum: bool = True
) -> Charge:
    return Charge("p/r", "p/r", "[]", amount, most, window_us, 1, is_sum, True, Reason(("x",)))


STEPS = st.lists(
    st.tuples(st.integers(-HOUR_US // 8, HOUR_US // 3), st.integers(0, 60)), min_size=1, max_size=80
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([HOUR_US, 64, 7, 1_000_003]))
def test_d9_no_window_ever_holds_more_than_the_budget(
    steps: list[tuple[int, int]], window_us: int
) -> None:
    """Whatever the clock does meanwhile: moments are those the bucket itself went by."""
    state, clock_us, at_us = "", START_US, START_US
    taken: list[tuple[int, int]] = []
    for step, amount in steps:
        clock_us += step * window_us // HOUR_US
        at_us = max(at_us, clock_us)
        answer = take(charge(amount, window_us=window_us), state, clock_us)
        if isinstance(answer, Taken):
            state = answer.state
            taken.append((at_us, amount))
            assert answer.until_us > clock_us
        else:
            assert answer.used + amount > 100 and answer.wait_us > 0
        assert len(state.split()) <= 2 * SLOTS
    for at, _ in taken:
        inside = sum(amount for when, amount in taken if at - window_us < when <= at)
        assert inside <= 100


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_d9_room_comes_back_at_most_a_64th_of_the_window_late(steps: list[tuple[int, int]]) -> None:
    """A call that an exact sliding window lets in is let in a 64th of a window later at most."""
    state, clock_us = "", START_US
    taken: list[tuple[int, int]] = []
    slot_us = -(-HOUR_US // SLOTS)
    for step, amount in steps:
        clock_us += abs(step)
        answer = take(charge(amount), state, clock_us)
        if isinstance(answer, Taken):
            state = answer.state
            taken.append((clock_us, amount))
            continue
        lenient_us = clock_us - HOUR_US - slot_us
        assert sum(amount for when, amount in taken if when > lenient_us) + amount > 100
        if amount > 100:
            continue
        later = take(charge(amount), state, clock_us + answer.wait_us)
        assert isinstance(later, Taken), "what is said of the wait is true"
        sooner = take(charge(amount), state, clock_us + answer.wait_us - 1)
        assert isinstance(sooner, Over), "and not a moment too long"


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(0, HOUR_US), min_size=1, max_size=60))
def test_a_rate_in_a_store_answers_as_one_in_the_process(most: int, steps: list[int]) -> None:
    state, full_at_ns, at_us = "", None, START_US
    for step in steps:
        at_us += step
        here = ask(full_at_ns, at_us * 1000, pace(most, HOUR_US))
        there = take(charge(1, most, is_sum=False), state, at_us)
        assert isinstance(there, Taken) is here.allowed
        if isinstance(there, Taken):
            state, full_at_ns = there.state, here.full_at_ns
            assert there.until_us * 1000 >= here.full_at_ns
        else:
            assert (there.used, there.wait_us) == (here.used, -(-here.wait_ns // 1000))


def test_a_bucket_is_its_text_alone() -> None:
    first = take(charge(40), "", START_US)
    assert isinstance(first, Taken)
    second = take(charge(40), first.state, START_US + 1)
    assert isinstance(second, Taken)
    assert take(charge(40), second.state, START_US + 2) == Over(
        80, (START_US // (HOUR_US // 64) + 1) * (HOUR_US // 64) + HOUR_US - START_US - 2
    )
    assert isinstance(take(charge(20), second.state, START_US + 2), Taken), "positive control"


def test_a_larger_budget_keeps_what_was_used() -> None:
    used = take(charge(90), "", START_US)
    assert isinstance(used, Taken)
    assert isinstance(take(charge(20), used.state, START_US), Over)
    assert isinstance(take(charge(20, most=110), used.state, START_US), Taken)
    assert take(charge(5, most=50), used.state, START_US) == Over(90, HOUR_US + _slot_rest())


def _slot_rest() -> int:
    slot_us = HOUR_US // 64
    return (START_US // slot_us + 1) * slot_us - START_US


def test_what_can_never_fit_waits_a_window() -> None:
    assert take(charge(101), "", START_US) == Over(0, HOUR_US)


def test_nothing_is_an_amount_too() -> None:
    full = take(charge(100), "", START_US)
    assert isinstance(full, Taken)
    assert isinstance(take(charge(0), full.state, START_US), Taken)
    assert isinstance(take(charge(1), full.state, START_US), Over)


@pytest.mark.parametrize("state", ["x", "1:2:3", "5:1 4:1", "5:1 5:1", "7:-3", "7", ":", "1:1e9"])
def test_a_text_that_cannot_be_read_has_no_room(state: str) -> None:
    assert take(charge(1), state, START_US) == Over(100, HOUR_US)


@pytest.mark.parametrize("state", ["x", "1.5", "1 2"])
def test_a_rate_that_cannot_be_read_has_no_room(state: str) -> None:
    assert take(charge(1, 5, is_sum=False), state, START_US) == Over(5, HOUR_US)
