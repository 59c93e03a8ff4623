"""Tests that stand beside policies say whether a set may come in force, within bounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from policy_setup import PACKS

from sidecar.policy.case_runner import run_case
from sidecar.policy.case_set import case_set, read_context
from sidecar.policy.fields import Problems
from sidecar.policy.load import SECRETS, LoadedPolicies, Source
from sidecar.policy.self_test import Allowance
from sidecar.policy_reading import pack_folders, take_reading
from sidecar.problems import errors_only
from sidecar.proxy.described_request import route_request
from sidecar.proxy.redaction import Redactor
from sidecar.soc.loading import load_all
from sidecar.soc.self_test import self_test

TOOLS = "catalogue: shop\ntools: {buy: POST /buy, look: GET /look}\n"
POLICY = "policy: shop\nrules: [{id: looks, effect: allow, tools: shop/*, mutates: false}]\n"
TEST = """test: shop
cases:
  - {name: looking, call: shop/look, expect: allow, by: shop/looks}
  - {name: buying, call: shop/buy, expect: deny}
"""
DETECTION = """detection: storm
severity: high
where: {effect: deny}
by: agent
at_least: 3
within: 60s
"""
DETECTION_TEST = """test: storm
cases:
  - {name: three, events: [{times: 3, effect: deny, call: shop/buy}], expect: 1}
"""


def loaded(parts: dict[str, str]) -> LoadedPolicies:
    sources = [Source(name, text.encode()) for name, text in parts.items()]
    found = load_all(
        sources, upstreams={"shop": "rest"}, default="deny", read_file=lambda source, name: b""
    )
    assert found.policy_set is not None, found.problems
    return found


def tried(
    parts: dict[str, str],
    *,
    cases: int = 100,
    time_s: float = 60.0,
    monotonic_ns: Callable[[], int] = lambda: 0,
) -> list[str]:
    allowance = Allowance(cases, time_s, monotonic_ns)
    redact = Redactor(SECRETS).arguments
    return [str(one) for one in self_test(loaded(parts), route_request, redact, allowance)]


def parts_with(**parts: str) -> dict[str, str]:
    files = {name.replace("__", "/") + ".yaml": text for name, text in parts.items()}
    return {"tools.yaml": TOOLS, "shop.yaml": POLICY, **files}


def test_a_set_whose_tests_pass_has_no_problem() -> None:
    assert tried(parts_with()) == []
    given = parts_with(t=TEST, d=DETECTION, dt=DETECTION_TEST)
    assert tried(given) == []


def test_each_failing_case_is_named_with_its_place_and_what_came() -> None:
    wrong = TEST.replace("expect: deny", "expect: allow").replace("by: shop/looks", "code: no")
    wrong = wrong.replace("code: no", "code: default_deny")
    assert tried(parts_with(t=wrong)) == [
        't.yaml:3:12: error: the test "looking" fails: code: expected default_deny, came '
        "policy_allow\n    hint: aegis-sidecar policy test t.yaml",
        't.yaml:4:12: error: the test "buying" fails: effect: expected allow, came deny by '
        "default_deny\n    hint: aegis-sidecar policy test t.yaml",
    ]


def test_tests_of_detections_count_too_and_one_failure_hides_no_other() -> None:
    wrong = DETECTION_TEST.replace("expect: 1", "expect: 2")
    found = tried(
        parts_with(t=TEST.replace("expect: deny", "expect: allow"), d=DETECTION, dt=wrong)
    )
    assert [one.partition(" error")[0] for one in found] == ["dt.yaml:3:12:", "t.yaml:4:12:"]
    assert "alerts: expected 2, came 1" in found[0]


def test_a_test_that_cannot_be_used_is_a_problem_of_the_set() -> None:
    assert tried(parts_with(t=TEST.replace("test: shop", "test: shp"))) == [
        't.yaml:1:7: error: there is no policy "shp" here\n    hint: did you mean "shop"?',
        't.yaml:3:57: error: there is no rule "shop/looks" under test',
    ]
    assert "tims" in tried(parts_with(t=TEST.replace("expect: deny", "expect: deny, tims: 2")))[0]
    found = tried(parts_with(d=DETECTION, dt=DETECTION_TEST.replace("test: storm", "test: strom")))
    assert 'there is no detection "strom" here' in found[0]


def test_what_is_only_worth_a_word_stops_nothing() -> None:
    near = TEST + "  - {name: near, call: shop/lookk, expect: deny}\n"
    assert tried(parts_with(t=near)) == []


def test_more_cases_than_may_be_are_refused_before_one_is_run() -> None:
    ticks = itertools.count()
    assert tried(parts_with(t=TEST), cases=2) == []
    found = tried(parts_with(t=TEST, u=TEST), cases=3, monotonic_ns=lambda: next(ticks))
    assert found == [
        "u.yaml:1:1: error: 4 cases of tests, and self_test.cases is 3\n    hint: raise "
        "self_test.cases, or test elsewhere with `aegis-sidecar policy test` and set "
        "self_test.run: false"
    ]
    assert next(ticks) == 1  # what the allowance began with


def test_tests_that_take_too_long_are_given_up_and_the_set_is_refused() -> None:
    """Also within one case, which may repeat its call ten thousand times."""
    slow = TEST.replace("call: shop/look,", "call: shop/look, times: 10000,")
    ticks = itertools.count(step=1_000_000)  # 1 ms a look
    found = tried(parts_with(t=slow), time_s=2.0, monotonic_ns=lambda: next(ticks))
    assert len(found) == 1
    assert found[0].startswith(
        "t.yaml:3:12: error: the tests take longer than the 2 s of self_test.time: 0 of 2 cases "
        "are through"
    )
    assert next(ticks) < 2_100 * 1_000_000
    many = DETECTION_TEST.replace("times: 3", "times: 10000")
    ticks = itertools.count(step=1_000_000)
    found = tried(parts_with(d=DETECTION, t=many), time_s=2.0, monotonic_ns=lambda: next(ticks))
    assert "0 of 1 cases are through" in found[0]
    assert next(ticks) < 2_100 * 1_000_000


def test_nobody_waits_for_tests_that_were_given_up() -> None:
    ticks, rests = itertools.count(step=1_000_000), itertools.count()
    allowance = Allowance(100, 60.0, lambda: next(ticks), lambda: next(rests) > 3)
    slow = TEST.replace("call: shop/look,", "call: shop/look, times: 10000,")
    found = self_test(loaded(parts_with(t=slow)), route_request, lambda given: given, allowance)
    assert found and next(rests) == 5


def test_others_have_their_turn_after_each_half_millisecond_of_tests() -> None:
    """The clock goes on by 0.1 ms a look, which is a call each."""
    ticks, rests = itertools.count(step=100_000), itertools.count()
    allowance = Allowance(100, 60.0, lambda: next(ticks), lambda: next(rests) < 0)
    slow = TEST.replace("call: shop/look,", "call: shop/look, times: 10000,")
    found = self_test(loaded(parts_with(t=slow)), route_request, lambda given: given, allowance)
    assert found == []
    assert 10_000 // 6 <= next(rests) <= 10_000 // 5 + 2


def test_tests_of_ones_own_see_every_policy_and_ones_own_catalogues() -> None:
    pack = POLICY.replace("policy: shop", "policy: common")
    test = TEST.replace("test: shop", "test: common").replace("shop/looks", "common/looks")
    given = {"a/tools.yaml": TOOLS, "pack:common/policy.yaml": pack, "b/t.yaml": test}
    assert tried(given) == []


def test_tests_of_a_pack_see_the_pack_alone() -> None:
    """An operator's catalogue that is looser or stricter makes no test of a pack fail."""
    strict = "catalogue: shop\ntools: {buy: POST /buy, '*': {labels: [moves-money]}}\n"
    pack = POLICY.replace("mutates: false", "labels: [moves-money]")
    test = TEST.replace("cases:", "tools: {shop/look: GET /look, shop/buy: POST /buy}\ncases:")
    test = test.replace("expect: allow, by: shop/looks", "expect: deny")
    given = {"tools.yaml": strict, "pack:s/policy.yaml": pack, "pack:s/t.yaml": test}
    assert tried(given) == []
    own = {"tools.yaml": strict, "s/policy.yaml": pack, "s/t.yaml": test}
    assert ['the test "' in one for one in tried(own)] == [True, True]


def test_tests_change_no_revision() -> None:
    def revision(parts: dict[str, str]) -> str:
        policy_set = loaded(parts).policy_set
        assert policy_set is not None
        return policy_set.revision

    assert revision(parts_with()) == revision(parts_with(t=TEST)) == revision(parts_with(u=TEST))
    assert revision(parts_with()) != revision(
        {**parts_with(), "shop.yaml": POLICY[:-2] + ", {id: b, effect: deny, tools: shop/buy}]\n"}
    )


@pytest.mark.parametrize("pack", list(pack_folders()))
def test_a_case_comes_to_the_same_with_and_without_an_account(pack: str) -> None:
    reading = take_reading([f"pack:{pack}"], Path.cwd())
    problems = Problems()
    context = read_context(reading.sources, reading.read_file, problems)
    for file in context.tests:
        cases = case_set(context, file, problems)
        assert cases is not None
        for case in cases.file.cases:
            plain = run_case(cases, case, route_request, is_explained=False)
            account = run_case(cases, case, route_request)
            assert (plain.wrong, plain.judged, plain.passed) == (account.wrong, [], True)
    assert not errors_only(problems.found)


def test_all_packs_that_ship_pass_together() -> None:
    reading = take_reading([f"pack:{name}" for name in pack_folders()], PACKS)
    found = load_all(
        reading.sources, upstreams={"shop": "rest"}, default="deny", read_file=reading.read_file
    )
    assert found.policy_set is not None
    allowance = Allowance(10_000, 60.0, lambda: 0)
    redact = Redactor(SECRETS).arguments
    assert self_test(found, route_request, redact, allowance) == []
    assert allowance.done > 250
