"""A condition on a meter gives what it gives without, or the error that it takes too long."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from policy_setup import MONDAY_10_UTC_US, make_call, make_principal, policies

from sidecar.policy import admission, evaluation
from sidecar.policy.admission import ConditionError
from sidecar.policy.conditions import BadExpression, Condition, Scope
from sidecar.policy.evaluation import BoundScope
from sidecar.policy.facts import Facts
from sidecar.policy.meter import Meter, OverBudget, running, spend

CONSTANTS: dict[str, Any] = {"names": ["a", "b", "core"], "most": 3, "zone": "Europe/Berlin"}
POLICIES = policies("catalogue: files\ntools:\n  read: {mutates: false, labels: [pii, b]}\n")


def facts_of(args: dict[str, Any]) -> Facts:
    principal = make_principal(team="core", claims={"sub": "a"})
    return Facts(principal, make_call(POLICIES, "files/read", args), MONDAY_10_UTC_US)


def answer(condition: Condition, args: dict[str, Any]) -> bool | None:
    """True or false, None for an error."""
    try:
        return BoundScope(condition.scope, [condition]).holds(condition, facts_of(args))
    except (ConditionError, OverBudget, RuntimeError):
        return None


def on_a_meter(condition: Condition) -> Condition:
    """The same, which takes its meter with it everywhere."""
    return dataclasses.replace(condition, usual=None, is_everyday=False, plain=None, memo={})


@pytest.fixture(autouse=True)
def metered_wherever_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bound is small enough to do without the meter, and the meter never runs out."""
    monkeypatch.setattr(admission.Metered, "bound_ns", lambda *_: float("inf"))
    monkeypatch.setattr(evaluation, "COST_MAX_NS", 1e15)
    monkeypatch.setattr(admission, "COST_MAX_NS", 1e15)


_TEXT = st.sampled_from(
    ["x", "k", "args.s", "args.t", "string(args.n)", "args.m.a", "agent.team", "'a,b'", "''", "'é'"]
)
_CALLED = st.builds(
    "{}.{}".format,
    _TEXT,
    st.sampled_from(
        ["trim()", "lowerAscii()", "upperAscii()", "reverse()", "replace('a', 'bb')", "charAt(0)",
         "substring(1)", "replace(args.t, args.s)", "split(',').join('-')", "split(args.t)[0]"]
    ),
)  # fmt: skip
_TEXTS = st.one_of(_TEXT, _CALLED)
_TESTS = st.one_of(
    st.builds("{} == {}".format, _TEXTS, _TEXTS),
    st.builds("{}.contains({})".format, _TEXTS, _TEXTS),
    st.builds("{}.startsWith({})".format, _TEXTS, _TEXTS),
    st.builds("{}.matches(r'^[a-c,]+$')".format, _TEXTS),
    st.builds("{} in constants.names".format, _TEXTS),
    st.builds("glob({}, '*a*')".format, _TEXTS),
    st.builds("under({}, '/a')".format, _TEXTS),
    st.builds("size({}) > 1".format, _TEXTS),
    st.sampled_from(
        ["x > 0", "args.n < constants.most", "type(x) == string", "now.getHours() > 1"]
    ),
)
_LISTS = st.sampled_from(
    ["args.l", "args.m", "args", "args.s.split(',')", "[args.?s, args.?t]", "constants.names",
     "tool.labels", "agent.claims", "args.?l.orValue([])", "args.l.filter(x, type(x) == string)",
     "args.l + [1, 'a']", "args.map(k, args[k])", "args.filter(k, k != 's').map(k, args[k])",
     "{'a': 1, 'b': args.s}", "variables.pieces", "variables.kept"]
)  # fmt: skip
_LOOPS = st.one_of(
    st.builds("{}.exists(x, {})".format, _LISTS, _TESTS),
    st.builds("{}.all(x, {})".format, _LISTS, _TESTS),
    st.builds("{}.exists_one(x, {})".format, _LISTS, _TESTS),
    st.builds("{}.filter(x, {}).size() > 1".format, _LISTS, _TESTS),
    st.builds("{}.map(x, {}).exists(y, y)".format, _LISTS, _TESTS),
    st.builds("{}.map(x, {}, x).size() == 2".format, _LISTS, _TESTS),
    st.builds("{}.exists(k, {}.exists(x, {}))".format, _LISTS, _LISTS, _TESTS),
    st.builds("args.?s.optMap(x, {}).orValue(false)".format, _TESTS),
)
EXPRESSIONS = st.one_of(
    _LOOPS,
    st.builds("({}) && ({})".format, _LOOPS, _LOOPS),
    st.builds("({}) || !({})".format, _LOOPS, _TESTS),
    st.builds("({}) ? ({}) : ({})".format, _LOOPS, _LOOPS, _TESTS),
)
_VALUES = st.sampled_from(["", "a", "a,b", "b,,a", "/a/b", "é", "core", 0, 1, 7, True, None, 0.5])
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "s": _VALUES,
        "t": _VALUES,
        "n": st.sampled_from([0, 1, 5, "5"]),
        "l": st.lists(_VALUES, max_size=4),
        "m": st.dictionaries(st.sampled_from(["a", "b"]), _VALUES, max_size=2),
    },
)


def scope_of(expression: str) -> Condition:
    scope = Scope(CONSTANTS)
    scope.add_variable("pieces", "args.s.split(',')")
    scope.add_variable("kept", "variables.pieces.filter(x, x != '' && x.contains(args.t))")
    try:
        return scope.condition(expression)
    except BadExpression:
        assume(False)
        raise


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, ARGUMENTS)
@example("args.l.exists(x, x == 'a')", {"l": ["b", "a"]})
@example("args.l.map(x, x + 'a').exists(y, y == 'aa')", {"l": ["a"]})
@example("args.l.exists(x, x.contains('a'))", {"l": [1, "a"]})
@example("args.l.all(x, x.contains('a'))", {"l": [1, "b"]})
def test_d6_the_meter_changes_no_answer(expression: str, args: dict[str, Any]) -> None:
    condition = scope_of(expression)
    assert answer(on_a_meter(condition), args) is answer(condition, args)


def test_the_property_sees_a_meter_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: a text comes back changed."""
    condition = scope_of("args.l.exists(x, x.contains('a'))")
    assert answer(on_a_meter(condition), {"l": ["b"]}) is False
    monkeypatch.setattr(Meter, "text", lambda self, text, call: f"{text}a")
    assert answer(on_a_meter(condition), {"l": ["b"]}) is True


@pytest.mark.parametrize(
    ("expression", "args"),
    [
        ("args.l.exists(x, x == -1)", {"l": list(range(900))}),
        ("args.l.map(x, x).size() == 1", {"l": list(range(200))}),
        ("args.l.exists(x, x.contains('b'))", {"l": ["a" * 1000] * 100}),
        ("args.l.exists(x, host(x) == 'b')", {"l": ["http://a/"] * 300}),
        ("args.s.split(',').exists(x, x == 'b')", {"s": "a," * 3000}),
        ("variables.pieces.exists(x, x == 'b')", {"s": "a," * 3000}),
        ("args.l.exists(x, args.s.matches(r'^(a|b)+c'))", {"l": [1, 2, 3, 4], "s": "ab" * 50_000}),
    ],
)
def test_d6_a_meter_that_runs_out_is_an_error(
    expression: str, args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = on_a_meter(scope_of(expression))
    assert answer(condition, args) is False
    for budget in (900_000, 90_000):
        monkeypatch.setattr(evaluation, "COST_MAX_NS", budget)
        with pytest.raises(Exception, match="takes too long on what this call holds"):
            BoundScope(condition.scope, [condition]).holds(condition, facts_of(args))


def test_it_does_not_matter_which_condition_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is evaluated once, and each condition that reads it pays for it."""
    args = {"s": "a," * 400}
    monkeypatch.setattr(evaluation, "COST_MAX_NS", 2_500_000)
    one = on_a_meter(scope_of("variables.pieces.exists(x, x == 'b')"))
    alone = facts_of(args)
    supply = BoundScope(one.scope, [one])
    assert supply.holds(one, alone) is False
    again = dataclasses.replace(one, memo={})
    twice = [supply.holds(again, alone) for _ in range(2)]
    assert twice == [False, False]
    monkeypatch.setattr(evaluation, "COST_MAX_NS", 300_000)
    with pytest.raises(OverBudget):
        supply.holds(again, alone)


def test_without_a_meter_nothing_is_spent() -> None:
    spend(1e18)
    meter = Meter(10, 0)
    with running(meter):
        spend(4)
        with pytest.raises(OverBudget):
            spend(7)
    spend(1e18)
    assert meter.left_ns == -1
