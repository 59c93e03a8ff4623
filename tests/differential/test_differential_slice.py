"""D1, D2: a second evaluator agrees on 20,000 generated cases, and the harness finds faults."""

from __future__ import annotations

import re

import pytest
from differential_planted import FAULTS, planted
from differential_run import Report, run

CASES = 20_000
#: Another seed is another 20,000 cases; the full run takes a new one each time.
SEED = 8
#: A planted fault is found within so many.
FOUND_WITHIN = 3_000


def told(report: Report) -> str:
    return "\n\n".join(report.violations)


def test_d1_d2_the_twin_agrees_on_20_000_cases() -> None:
    report = run(CASES, SEED)
    assert report.violations == [], told(report)
    assert report.cases == CASES
    assert report.coverage.missing() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    with planted(fault):
        report = run(FOUND_WITHIN, SEED, calls_per_set=25, stops=True)
    assert report.differing, f"{report.cases} cases and no difference"


def test_a_difference_is_told_with_the_least_that_shows_it() -> None:
    with planted("star-covers-unknown"):
        report = run(20, SEED, calls_per_set=20)
    rules = re.findall(r"^  - \{.*$", report.violations[0], re.MULTILINE)
    assert len(rules) == 1
    assert "effect: allow" in rules[0]
    assert "when" not in rules[0]
    assert f"seed {SEED}, set 0, call " in report.violations[0]


def test_a_generator_whose_sets_do_not_load_is_a_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("generated_rules.TRUSTS", ("no-such-level",))
    report = run(2_000, SEED, calls_per_set=10)
    assert "do not load" in report.violations[-1]
