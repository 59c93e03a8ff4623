"""The plain part of conditions: the same answers as CEL's, or none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from policy_setup import MONDAY_10_UTC_US, make_call, make_principal, policies

from sidecar.policy import plain
from sidecar.policy.conditions import BadExpression, Condition, Scope
from sidecar.policy.evaluation import BoundScope, ConditionError
from sidecar.policy.facts import Facts
from sidecar.policy.sizes import Unreadable, size_of

CONSTANTS: dict[str, Any] = {"owners": ["acme", "Acme", ""], "most": 10, "mixed": ["a", 1]}
POLICIES = policies("catalogue: files\ntools:\n  read: {mutates: false, labels: [pii]}\n")


def facts_of(args: Any) -> Facts:
    principal = make_principal(team="core", environment="prod")
    return Facts(principal, make_call(POLICIES, "files/read", args), MONDAY_10_UTC_US)


def asked_of_cel(condition: Condition, facts: Facts) -> bool | None:
    """What the library says; None for an error."""
    only_cel = dataclasses.replace(condition, plain=None)
    try:
        return BoundScope(condition.scope, [only_cel]).holds(only_cel, facts)
    except ConditionError:
        return None


def is_readable(args: dict[str, Any]) -> bool:
    try:
        size_of(args)
    except Unreadable:
        return False
    return True


def agrees(condition: Condition, args: dict[str, Any]) -> bool:
    """Whether the plain answer, if there is one, is CEL's. Arguments that cannot be given to the
    library count for neither: they are refused before either is asked."""
    if condition.plain is None or not is_readable(args):
        return True
    facts = facts_of(args)
    answer = condition.plain(facts)
    return answer is None or asked_of_cel(condition, facts) is answer


_PATHS = st.sampled_from(
    ["args.a", "args.b", "args.c", "args.c.d", "args.c.d.e", "args.f", "args.missing", "args"]
)
_NAMES = st.sampled_from(
    ["agent.team", "agent.name", "tool.mutates", "tool.risk", "risk.high", "http.method",
     "tool.labels", "constants.most", "constants.owners", "now", "http.headers", "agent.claims"]
)  # fmt: skip
_LITERALS = st.sampled_from(
    ["0", "1", "-1", "7", "7u", "1.0", "-0.0", "0.5", "1e3", "9007199254740993", "''", "'acme'",
     "'ac'", "'é'", "true", "false", "null", "b'acme'", "['acme', 'b']", "[1, 2]", "[]",
     "{'a': 1}", "'core'", "'POST'", "9223372036854775807", "-9223372036854775808"]
)  # fmt: skip
_VALUES = st.one_of(
    _PATHS, _PATHS, _NAMES, _LITERALS, _PATHS.map("size({})".format), _PATHS.map("{}.size()".format)
)
_COMPARED = st.builds(
    "{} {} {}".format,
    _VALUES,
    st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "+"]),
    _VALUES,
)
_TESTED = st.builds(
    "{}.{}({})".format, _VALUES, st.sampled_from(["startsWith", "endsWith", "contains"]), _VALUES
)
_PRESENT = _PATHS.map("has({})".format)
_TERMS = st.one_of(_COMPARED, _COMPARED, _TESTED, _PRESENT, _VALUES)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        inner,
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["&&", "||"]), inner),
        inner.map("!({})".format),
        st.builds("({}) ? ({}) : ({})".format, inner, inner, inner),
    )


EXPRESSIONS = _joined(_joined(_TERMS))
_SCALARS = st.one_of(
    st.sampled_from(["acme", "Acme", "ac", "", "é", "core", "\0acme", True, False, None, 0, 1, 7]),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
_MEMBERS = st.sampled_from("ade")
_FLAT = st.one_of(
    _SCALARS, st.lists(_SCALARS, max_size=3), st.dictionaries(_MEMBERS, _SCALARS, max_size=3)
)
_ANY = st.one_of(_SCALARS, _FLAT, st.dictionaries(_MEMBERS, _FLAT, max_size=3))
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b", "c", "f"]), _ANY, max_size=4)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, ARGUMENTS)
@example("args.a == args.b", {"a": True, "b": 1})
@example("args.a > 0 && args.b == 'acme'", {"a": 7})
@example("(args.missing == 1) && (args.a == 2)", {"a": 1})
@example("(args.missing == 1) || (args.a == 1)", {"a": 1})
@example("args.a == 'acme'", {"a": "acme\0b"})
@example("args.a in ['acme', 'b']", {"a": None})
@example("size(args.a) == 1", {"a": "é"})
@example("args.a == 7", {"a": 7.0})
@example("has(args.c.d)", {"c": 1})
def test_an_answer_is_the_one_cel_gives(expression: str, args: dict[str, Any]) -> None:
    scope = Scope(CONSTANTS)
    try:
        condition = scope.condition(expression)
    except BadExpression:
        assume(False)
    assert agrees(condition, args)


@pytest.mark.parametrize(
    ("expression", "args", "answer"),
    [
        ("args.number > 0 && args.owner == 'acme'", {"number": 7, "owner": "acme"}, True),
        ("args.number > 0 && args.owner == 'acme'", {"number": 0, "owner": "acme"}, False),
        ("args.amount <= 500", {"amount": 500}, True),
        ("args.amount <= 500.5", {"amount": 500.25}, True),
        ("!(args.branch in ['main', 'release'])", {"branch": "topic"}, True),
        ("args.owner in constants.owners", {"owner": "acme"}, True),
        ("args.amount > constants.most", {"amount": 11}, True),
        ("args.options.draft", {"options": {"draft": True}}, True),
        ("!has(args.force) || args.force == false", {}, True),
        ("args.path.startsWith('/srv/')", {"path": "/srv/x"}, True),
        ("args.labels.size() < 3", {"labels": ["a"]}, True),
        ("tool.risk >= risk.high", {}, False),
        ("agent.team == 'core' && tool.mutates", {}, False),
        ("args.amount > 0 && args.owner.matches('^a.*$')", {"amount": 0}, False),
    ],
)
def test_everyday_conditions_need_no_cel(
    expression: str, args: dict[str, Any], answer: bool
) -> None:
    condition = Scope(CONSTANTS).condition(expression)
    assert condition.plain is not None
    assert condition.plain(facts_of(args)) is answer
    assert asked_of_cel(condition, facts_of(args)) is answer


@pytest.mark.parametrize(
    ("expression", "args"),
    [
        ("args.amount > 0", {}),
        ("args.amount > 0", {"amount": "7"}),
        ("args.amount > 0", {"amount": 7.5}),
        ("args.owner == 'acme'", {"owner": "acme\0"}),
        ("args.owner == 'acme'", {"owner": 7}),
        ("args.amount > 0 && args.owner.matches('^a.*$')", {"amount": 1, "owner": "a"}),
        ("args.a.b == 1", {"a": [1]}),
    ],
)
def test_what_is_not_certain_is_put_to_cel(expression: str, args: dict[str, Any]) -> None:
    condition = Scope(CONSTANTS).condition(expression)
    assert condition.plain is not None
    assert condition.plain(facts_of(args)) is None


def test_what_has_nothing_plain_has_no_plain_reading() -> None:
    assert Scope({}).condition("args.items.all(x, x > 1)").plain is None
    assert Scope({}).condition("args.name.matches('^a.*$')").plain is None


def test_the_property_sees_an_opinion_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: Python's own comparisons, for which True is 1."""
    args = {"a": True, "b": 1}
    assert agrees(Scope({}).condition("args.a == args.b"), args)
    monkeypatch.setattr(
        plain, "_comparison", lambda compare, _, one, other: lambda f: compare(one(f), other(f))
    )
    assert not agrees(Scope({}).condition("args.a == args.b"), args)
