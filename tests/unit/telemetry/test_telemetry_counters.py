"""Counters and histograms: right numbers, and no label that a caller can invent."""

from __future__ import annotations

import inspect
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

import storage.errors
from sidecar.errors import REFUSALS
from sidecar.model import Decision, Effect, Mode, OutcomeKind
from sidecar.telemetry.counters import (
    FAIL_CLOSED_CODES,
    FAIL_CLOSED_REASONS,
    LABELLED_UPSTREAMS,
    OTHER,
    Counters,
    Histogram,
)


def decision(effect: Effect, mode: Mode = Mode.ENFORCE, would_be: Effect | None = None) -> Decision:
    return Decision(effect, "policy_allow", "", "0" * 32, mode=mode, would_be=would_be)


@given(st.lists(st.integers(min_value=0, max_value=3 * 10**9)))
def test_a_histogram_puts_each_duration_below_its_bound(durations: list[int]) -> None:
    histogram = Histogram((0.001, 0.01, 1.0))
    for duration in durations:
        histogram.observe_ns(duration)
    expected = [0, 0, 0, 0]
    for duration in durations:
        expected[bisect_left([0.001, 0.01, 1.0], duration / 1e9)] += 1
    assert histogram.counts == expected
    assert histogram.count == len(durations)
    assert histogram.sum_ns == sum(durations)


def test_a_duration_equal_to_a_bound_is_within_it() -> None:
    histogram = Histogram((0.001, 0.01))
    histogram.observe_ns(1_000_000)
    histogram.observe_ns(1_000_001)
    assert histogram.counts == [1, 1, 0]


@pytest.mark.parametrize(("durations_ms", "share", "expected_s"), [
    ([], 0.5, None),
    ([1, 1], 0.5, 0.0005),  # evenly within the first bucket, which begins at 0
    ([1, 1], 1.0, 0.001),
    ([1, 5, 5, 5], 0.5, 0.004),
    ([1, 5, 5, 5], 0.25, 0.001),
    ([5], 0.99, 0.00991),
    ([5, 500], 0.99, 0.01),  # above the last bound: no more is known
])  # fmt: skip
def test_a_quantile_is_what_promql_would_estimate(
    durations_ms: list[int], share: float, expected_s: float | None
) -> None:
    histogram = Histogram((0.001, 0.01))
    for duration in durations_ms:
        histogram.observe_ns(duration * 1_000_000)
    found = histogram.quantile_s(share)
    assert found == (None if expected_s is None else pytest.approx(expected_s))


def test_decisions_are_counted_by_effect_and_mode() -> None:
    counters = Counters()
    counters.decided(decision(Effect.ALLOW), 1000, "acme")
    counters.decided(decision(Effect.DENY, Mode.OBSERVE), 1000, "acme")
    counters.decided(decision(Effect.DENY, Mode.OBSERVE, would_be=Effect.DENY), 1000, "acme")
    assert counters.decisions[(Effect.ALLOW, Mode.ENFORCE)] == 1
    assert counters.decisions[(Effect.DENY, Mode.OBSERVE)] == 2
    assert counters.decisions[(Effect.DENY, Mode.ENFORCE)] == 0
    assert {pair: n for pair, n in counters.shadow_decisions.items() if n} == {("deny", "deny"): 1}
    assert counters.decision_seconds.count == 3


def test_what_rules_in_shadow_would_change_is_told_from_what_they_would_not() -> None:
    counters = Counters()
    for would_be in (Effect.ALLOW, Effect.DENY, Effect.DENY, None):
        counters.decided(decision(Effect.ALLOW, would_be=would_be), 1000, "acme")
    assert len(counters.shadow_decisions) == 9, "every pair is there before it happens"
    assert {pair: n for pair, n in counters.shadow_decisions.items() if n} == {
        ("allow", "allow"): 1,
        ("allow", "deny"): 2,
    }


@pytest.mark.parametrize(
    ("code", "cause", "reason"),
    [
        ("policy_deny", "", None),
        ("invalid_json", "store_full", None),
        ("queue_full", "", "queue_full"),
        ("bodies_full", "", "bodies_full"),
        ("store_unavailable", "store_full", "store_full"),
        ("store_unavailable", "never heard of", "store_unavailable"),
        ("condition_error", "", "condition_error"),
    ],
)
def test_refusals_that_no_rule_asked_for_count_as_failed_closed(
    code: str, cause: str, reason: str | None
) -> None:
    counters = Counters()
    counters.refused(code, cause)
    assert counters.refusals[code] == 1
    counted = {name for name, count in counters.denied_fail_closed.items() if count}
    assert counted == ({reason} if reason else set())


def test_every_code_of_the_store_is_a_known_reason() -> None:
    codes = {
        kind.code
        for _, kind in inspect.getmembers(storage.errors, inspect.isclass)
        if issubclass(kind, storage.errors.StoreError)
    }
    at_start_only = {"store_too_new", "migration_changed", "unsupported_store"}
    assert codes - at_start_only <= set(FAIL_CLOSED_REASONS)
    assert set(FAIL_CLOSED_CODES) <= set(REFUSALS)


def test_g7_names_nobody_configured_are_counted_as_other() -> None:
    counters = Counters(["github"])
    series = len(counters.upstream_seconds), len(counters.refusals)
    for number in range(1000):
        counters.took(f"invented-{number}", 1, None)
        counters.refused(f"invented-{number}")
    counters.took("github", 1, None)
    assert (len(counters.upstream_seconds), len(counters.refusals)) == series
    assert counters.upstream_seconds[OTHER].count == 1000
    assert counters.upstream_seconds["github"].count == 1
    assert counters.refusals[OTHER] == 1000


def test_g7_a_thousand_upstreams_share_a_bounded_number_of_series() -> None:
    counters = Counters(f"up-{number:04}" for number in range(1000))
    assert len(counters.upstream_seconds) == LABELLED_UPSTREAMS + 1
    counters.took("up-0999", 5, None)
    assert counters.upstream_seconds[OTHER].count == 1


def test_outcomes_and_times_are_counted() -> None:
    counters = Counters(["github"])
    counters.ended(OutcomeKind.COMPLETED)
    counters.took("github", 1, 700_000)
    assert counters.outcomes[OutcomeKind.COMPLETED] == 1
    assert counters.added_seconds.counts[1] == 1
