"""GCRA against a bucket worked out in fractions: the same answers, and never one too many."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.gcra import Pace, ask, pace

STEPS = st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=60)
START_NS = 1_767_607_200_000_000_000


class Bucket:
    """The reference: so many tokens, coming back evenly; a call takes one."""

    def __init__(self, size: int, interval: Fraction) -> None:
        self.size, self.interval = size, interval
        self.tokens, self.at = Fraction(size), START_NS

    def ask(self, now_ns: int) -> tuple[bool, Fraction]:
        """Whether there is a token, and how long until there is one."""
        back = (now_ns - self.at) / self.interval
        self.tokens, self.at = min(Fraction(self.size), self.tokens + back), now_ns
        if self.tokens >= 1:
            self.tokens -= 1
            return True, Fraction(0)
        return False, (1 - self.tokens) * self.interval


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5_000_000), STEPS)
def test_d9_a_bucket_in_one_number_answers_like_a_bucket_in_fractions(
    calls_max: int, window_us: int, steps: list[int]
) -> None:
    rate = pace(calls_max, window_us)
    same = Bucket(calls_max, Fraction(rate.interval_ns))
    state, now_ns, allowed_ns = None, START_NS, []
    for step in steps:
        now_ns += step
        answer = ask(state, now_ns, rate)
        expected, wait = same.ask(now_ns)
        assert (answer.allowed, answer.wait_ns) == (expected, wait)
        assert 0 <= answer.used <= calls_max
        assert answer.allowed == (answer.used < calls_max)
        state = answer.full_at_ns
        assert state < 2**63
        if answer.allowed:
            allowed_ns.append(now_ns)
    # The true interval is a fraction; rounding it up may only refuse, never allow.
    true = Fraction(window_us * 1000, calls_max)
    for first in range(len(allowed_ns)):
        for last in range(first, len(allowed_ns)):
            elapsed = allowed_ns[last] - allowed_ns[first]
            assert last - first + 1 <= calls_max + elapsed / true


def test_d9_waiting_as_long_as_is_said_is_enough_and_no_longer_than_needed() -> None:
    rate = pace(3, 1_000_000)
    state = None
    for _ in range(3):
        answer = ask(state, START_NS, rate)
        assert answer.allowed
        state = answer.full_at_ns
    refused = ask(state, START_NS, rate)
    assert (refused.allowed, refused.used, refused.full_at_ns) == (False, 3, state)
    assert not ask(state, START_NS + refused.wait_ns - 1, rate).allowed
    assert ask(state, START_NS + refused.wait_ns, rate).allowed


def test_a_bucket_nobody_used_for_long_is_full_and_holds_no_more() -> None:
    rate = pace(2, 1_000_000)
    old = ask(None, START_NS, rate).full_at_ns
    later = START_NS + 10**12
    assert ask(old, later, rate) == ask(None, later, rate)


@pytest.mark.parametrize(("calls_max", "window_us"), [(0, 1), (1, 0), (-1, 5)])
def test_what_is_no_rate_is_refused(calls_max: int, window_us: int) -> None:
    with pytest.raises(ValueError, match="at least one call"):
        pace(calls_max, window_us)
    assert pace(1, 1) == Pace(1000, 1000)
