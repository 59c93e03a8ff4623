"""What a rule reads, and what can be said of a call of which not everything is known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_setup import MONDAY_10_UTC_US, make_call, make_principal, policies

from sidecar.policy.decide import decide
from sidecar.policy.explain import explain
from sidecar.policy.explain_text import explanation_lines
from sidecar.policy.hidden import MASK, Hidden, ReadsOfRules, masked_arguments, reads_of
from sidecar.policy.index import PolicySet
from sidecar.policy.verdicts import rule_on

TOOLS = "catalogue: files\ntools: {write: {}}\n"


def policy(*rules: str, variables: str = "") -> PolicySet:
    named = f"variables: {{{variables}}}\n" if variables else ""
    listed = "".join(
        f"  - {{id: r{n}, tools: files/write, {rule}}}\n" for n, rule in enumerate(rules)
    )
    return policies(f"policy: p\n{named}rules:\n{listed}", TOOLS)


@pytest.mark.parametrize(
    ("when", "paths"),
    [
        ("args.a > 1", {("a",)}),
        ("args.a.b == 1", {("a", "b")}),
        ('args["a-b"] == 1', {("a-b",)}),
        ('args.?a.orValue("x") == "y"', {("a",)}),
        ('args.?a.?b.orValue("x") == "y"', {("a", "b")}),
        ("has(args.a)", set()),
        ("has(args.a.b)", {("a",)}),
        ('"a" in args', set()),
        ("args.all(k, args[k] != 1)", {()}),
        ("size(args) > 1", {()}),
        ("agent.name == 'x'", set()),
    ],
)
def test_the_arguments_a_condition_reads(when: str, paths: set[tuple[str, ...]]) -> None:
    rule = policy(
        f"effect: deny, when: '{when}'" if "'" not in when else f'effect: deny, when: "{when}"'
    ).rules[0]
    assert reads_of(rule).arguments == paths


def test_variables_and_matchers_count_as_read() -> None:
    rule = policy(
        "effect: deny, when: variables.v, methods: POST, sources: 10.0.0.0/8, "
        "during: mon 09:00-17:00 UTC",
        variables="v: 'args.a > 1 && http.path == \"/\"'",
    ).rules[0]
    reads = reads_of(rule)
    assert reads.arguments == {("a",)}
    assert {"http.path", "http.method", "http.source_ip", "now"} <= reads.facts


def test_masks_are_found_at_any_depth() -> None:
    args = {"a": MASK, "b": {"c": MASK, "d": 1}, "e": [1, {"f": MASK}], "g": "**"}
    assert masked_arguments(args) == {("a",), ("b", "c"), ("e",)}


@pytest.mark.parametrize(
    ("read", "masked", "names"),
    [
        (("a",), ("a",), ("args.a",)),
        (("a",), ("a", "b"), ("args.a.b",)),
        (("a", "b"), ("a",), ("args.a.b",)),
        ((), ("a",), ("args.a",)),
        (("a",), (), ("args.a",)),
        (("a",), ("b",), ()),
        (("a", "b"), ("a", "c"), ()),
    ],
)
def test_what_is_hidden_of_what_is_read(
    read: tuple[str, ...], masked: tuple[str, ...], names: tuple[str, ...]
) -> None:
    rule_reads = reads_of(policy("effect: deny").rules[0])
    reads = type(rule_reads)(rule_reads.facts, frozenset({read}))
    assert Hidden(arguments=frozenset({masked})).of(reads) == names


CONDITIONS = (
    "args.n > 1",
    "args.s == 'a'",
    "has(args.s)",
    "args.n > 1 || args.s == 'a'",
    "args.all(k, args[k] != 'a')",
)
RULES = st.tuples(
    st.sampled_from(["allow", "deny", "require_approval"]),
    st.sampled_from([*CONDITIONS, None]),
    st.booleans(),
)
VALUES: tuple[Any, ...] = (0, 5, "a", "b", None, True, [1])


@settings(max_examples=80, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=4), st.sampled_from(VALUES))
def test_what_is_called_certain_holds_whatever_was_hidden(
    rules: list[tuple[str, str | None, bool]], known: Any
) -> None:
    texts = []
    for effect, when, is_shadow in rules:
        text = f"effect: {effect}"
        text += f', when: "{when}"' if when else ""
        texts.append(text + (", mode: shadow" if is_shadow else ""))
    policy_set = policies_of_pack(texts)
    principal = make_principal()
    masked = make_call(policy_set, "files/write", {"n": known, "s": MASK})
    hidden = Hidden(arguments=frozenset({("s",)}))
    ruling = rule_on(
        policy_set, principal, masked, MONDAY_10_UTC_US, hidden=hidden, reads=ReadsOfRules()
    )
    effects = {
        decide(
            policy_set,
            principal,
            make_call(policy_set, "files/write", {"n": known, "s": value}),
            MONDAY_10_UTC_US,
        ).effect
        for value in VALUES
    }
    if ruling.is_certain:
        assert effects == {ruling.decision.effect}
    else:
        assert ruling.unknown


def policies_of_pack(rules: list[str]) -> PolicySet:
    listed = "".join(
        f"  - {{id: r{n}, tools: files/write, {rule}}}\n" for n, rule in enumerate(rules)
    )
    text = f"policy: p\nrules:\n{listed}"
    return policies(text, TOOLS, names=("pack:p", "tools.yaml"))


def test_a_deny_stands_although_something_is_hidden_and_an_allow_does_not() -> None:
    call_args = {"n": 5, "s": MASK}
    hidden = Hidden(arguments=frozenset({("s",)}))
    for effect, is_certain in (("deny", True), ("allow", False)):
        policy_set = policy(
            f"effect: {effect}, when: args.n > 1", "effect: deny, when: args.s == 'x'"
        )
        call = make_call(policy_set, "files/write", call_args)
        found = explain(policy_set, make_principal(), call, 0, hidden=hidden)
        assert found.judged.ruling.is_certain is is_certain
        text = "\n".join(explanation_lines(found))
        assert "not recorded: args.s" in text and "args.s (not recorded)" in text
        assert MASK not in text
        assert text.startswith("deny  p/r0" if is_certain else "?  it cannot be told: p/r1")
