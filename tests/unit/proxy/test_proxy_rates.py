"""Rates kept in the process: all buckets or none, a bounded number of them, counted once a call."""

from __future__ import annotations

from typing import Any

from sidecar.policy.reasons import Reason
from sidecar.policy.terms import Charge
from sidecar.proxy.rates import Counted, Rates

SECOND_NS = 1_000_000_000


def charge(key: str = "k", **changes: Any) -> Charge:
    made = Charge("p/r", "p/r#0", key, 1, 2, 1_000_000, 1, False, False, Reason(("p/r",)))
    return made._replace(**changes)


def test_d9_over_the_limit_says_how_long_and_counts_nothing() -> None:
    rates = Rates()
    assert [rates.take([charge()], 0, {}) for _ in range(2)] == [None, None]
    for _ in range(5):
        over = rates.take([charge()], 0, {})
        assert over is not None
        assert (over.used, over.wait_ns, over.is_full) == (2, SECOND_NS // 2, False)
    assert rates.take([charge()], SECOND_NS // 2, {}) is None
    assert rates.take([charge("other")], 0, {}) is None, "positive control: another bucket"


def test_d9_a_call_is_counted_in_all_its_buckets_or_in_none() -> None:
    rates = Rates()
    wide = charge(limit="p/r#1", max=100)
    for _ in range(2):
        assert rates.take([wide, charge()], 0, {}) is None
    over = rates.take([wide, charge()], 0, {})
    assert over is not None
    assert over.charge.limit == "p/r#0"
    left = 0
    while rates.take([wide], 0, {}) is None:
        left += 1
    assert left == 98


def test_of_several_limits_the_one_with_the_longest_wait_is_named() -> None:
    rates = Rates()
    slow = charge(limit="p/r#1", max=1, window_us=60_000_000)
    assert rates.take([charge(max=1), slow], 0, {}) is None
    over = rates.take([charge(max=1), slow], 0, {})
    assert over is not None
    assert (over.charge.limit, over.wait_ns) == ("p/r#1", 60 * SECOND_NS)


def test_a_call_decided_anew_is_counted_once() -> None:
    rates, counted = Rates(), {}
    for _ in range(5):
        assert rates.take([charge()], 0, counted) is None
    assert rates.take([charge()], 0, {}) is None
    assert rates.take([charge()], 0, {}) is not None


def test_sums_and_shared_limits_are_not_counted_here() -> None:
    rates = Rates()
    for _ in range(5):
        assert rates.take([charge(is_sum=True), charge(is_shared=True)], 0, {}) is None
    assert rates.bucket_count == 0
    for first in (charge(is_sum=True), charge(is_shared=True)):
        rates = Rates()
        found = [rates.take([first, charge()], 0, {}) is None for _ in range(3)]
        assert found == [True, True, False], (
            "what stands behind one of them is counted all the same"
        )


def test_d6_room_is_made_of_full_buckets_alone() -> None:
    rates = Rates(buckets_max=2)
    assert rates.take([charge("idle")], 0, {}) is None
    now_ns = SECOND_NS
    assert [rates.take([charge("busy")], now_ns, {}) for _ in range(2)] == [None, None]
    assert rates.take([charge("new")], now_ns, {}) is None, "in the place of the idle one"
    over = rates.take([charge("busy")], now_ns, {})
    assert over is not None and not over.is_full, "what was counted of it stays counted"


def test_d6_of_too_many_limits_the_one_that_was_idle_longest_goes() -> None:
    rates = Rates(limits_max=2)
    old, busy = charge(limit="p/old#0"), charge(limit="p/busy#0", window_us=60_000_000)
    for now_ns, one in enumerate((busy, old, busy)):
        assert rates.take([one], now_ns, {}) is None
    assert rates.take([charge(limit="p/new#0")], 3, {}) is None
    assert rates.take([busy], 4, {}) is not None, "what was counted of it stays counted"


def test_d6_buckets_are_bounded_full_ones_are_forgotten_and_no_room_is_a_refusal() -> None:
    rates = Rates(buckets_max=10)
    assert [rates.take([charge(str(n))], 0, {}) for n in range(10)] == [None] * 10
    over = rates.take([charge("new")], 0, {})
    assert over is not None
    assert over.is_full
    assert over.wait_ns == SECOND_NS // 2
    assert rates.take([charge("3")], 0, {}) is None, "a bucket that is there goes on"
    assert rates.take([charge("new", limit="other#0")], 0, {}) is None, "other limits have room"
    assert rates.take([charge("new")], SECOND_NS, {}) is None
    assert rates.bucket_count == 2


def test_limits_of_rules_that_are_gone_make_room() -> None:
    rates = Rates(limits_max=3)
    for number in range(10):
        assert rates.take([charge(limit=f"p/r#{number}")], number, {}) is None
    assert rates.bucket_count == 3


def test_d9_a_call_that_does_not_go_ahead_gives_back_what_it_took() -> None:
    """Exactly that: what others took meanwhile stays taken."""
    rates = Rates()
    mine: Counted = {}
    assert rates.take([charge(), charge("wide", max=3)], 0, mine) is None
    assert rates.take([charge(), charge("wide", max=3)], 0, {}) is None
    assert rates.take([charge()], 0, {}) is not None, "positive control: both places are taken"
    rates.give_back(mine)
    assert mine == {}
    assert rates.take([charge()], 0, {}) is None
    assert rates.take([charge()], 0, {}) is not None, "one was given back, not two"
    rates.give_back(mine)
    assert rates.take([charge()], 0, {}) is not None, "and only once"
