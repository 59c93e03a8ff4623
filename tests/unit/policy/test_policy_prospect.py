"""`may_go_ahead` never says no of a tool that some call of the caller could reach."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_setup import make_call, make_principal, policies
from test_policy_properties import ARGS, CALLS, POLICIES, RUNS, TOOLS, load_pack, texts

from sidecar.model import Effect
from sidecar.policy.decide import decide
from sidecar.policy.prospect import may_be_masked, may_go_ahead
from sidecar.policy.runs import RunState


@settings(max_examples=150, deadline=None)
@given(POLICIES, ARGS, RUNS, st.sampled_from(["coder", "x", "other"]))
def test_c12_what_is_hidden_is_certainly_refused(
    files: list[list[dict[str, Any]]], args: dict[str, Any], run: RunState, agent: str
) -> None:
    policy_set = load_pack(texts(files), list(range(len(files))))
    principal = make_principal(agent=agent)
    for name in CALLS:
        call = make_call(policy_set, name, args)
        if not may_go_ahead(policy_set, principal, call.tool):
            assert decide(policy_set, principal, call, 0, run).effect is Effect.DENY, name


#: What rules say of files/write, whether a call of `coder` may go ahead, and one of `x`.
SAID = {
    "nothing": ("{id: a, effect: allow, tools: files/read}", False, False),
    "allowed": ("{id: a, effect: allow, tools: files/*}", True, True),
    "allowed to one": ("{id: a, effect: allow, tools: files/*, agents: coder}", True, False),
    "allowed and denied": (
        "{id: a, effect: allow, tools: files/*}, {id: b, effect: deny, tools: files/write}",
        False, False,
    ),
    "denied to one": (
        "{id: a, effect: allow, tools: files/*}, "
        "{id: b, effect: deny, tools: files/write, agents: x}",
        True, False,
    ),
    "denied by the call": (
        "{id: a, effect: allow, tools: files/*}, "
        "{id: b, effect: deny, tools: files/write, when: 'args.n > 1'}",
        True, True,
    ),
    "allowed by the call": (
        "{id: a, effect: allow, tools: files/write, when: 'args.n > 1'}", True, True,
    ),
    "allowed in shadow": (
        "{id: a, effect: allow, tools: files/write, mode: shadow}", False, False,
    ),
    "allowed in shadow by the call": (
        "{id: a, effect: allow, tools: files/write, mode: shadow, when: 'args.n > 1'}",
        False, False,
    ),
    "denied in shadow": (
        "{id: a, effect: allow, tools: files/*}, "
        "{id: b, effect: deny, tools: files/write, mode: shadow}",
        True, True,
    ),
    "with an approval": ("{id: a, effect: require_approval, tools: files/write}", True, True),
    "only a limit": (
        "{id: a, tools: files/write, limits: {per: agent, max: 2, window: 1h}}", False, False,
    ),
    "by another method": (
        "{id: a, effect: allow, tools: [files/write, github/unknown], methods: GET}", False, False,
    ),
    "by its method": ("{id: a, effect: allow, tools: files/write, methods: POST}", True, True),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAID)
def test_c12_what_tool_and_caller_settle_is_told_before_any_call(kind: str) -> None:
    rules, coder, other = SAID[kind]
    text = f"policy: p\nrules: [{rules}]\n"
    policy_set = policies(text, TOOLS)
    tool = make_call(policy_set, "files/write").tool
    told = [
        may_go_ahead(policy_set, make_principal(agent=agent), tool, "POST")
        for agent in ("coder", "x")
    ]
    assert told == [coder, other]
    observing = policies(text, TOOLS, default="observe")
    assert may_go_ahead(observing, make_principal(), tool, "POST"), "nothing is refused there"


#: What rules say of files/write, whether answers to `coder` may be masked, and those to `x`.
MASKED = {
    "nothing": ("{id: a, effect: allow, tools: files/*}", False, False),
    "always": ("{id: a, tools: files/*, obligations: {redact: {response: [email]}}}", True, True),
    "by paths": (
        "{id: a, tools: files/*, obligations: {redact: {response: [body.a]}}}", True, True,
    ),
    "of one": (
        "{id: a, tools: files/*, agents: coder, obligations: {redact: {response: [email]}}}",
        True, False,
    ),
    "by the call": (
        "{id: a, tools: files/write, when: 'args.n > 1', "
        "obligations: {redact: {response: [email]}}}",
        True, True,
    ),
    "of another tool": (
        "{id: a, tools: files/read, obligations: {redact: {response: [email]}}}", False, False,
    ),
    "what is asked": (
        "{id: a, tools: files/*, obligations: {redact: {request: [args.a]}}}", False, False,
    ),
    "a size": ("{id: a, tools: files/*, obligations: {max_response: 1KiB}}", False, False),
    "in shadow": (
        "{id: a, tools: files/*, mode: shadow, obligations: {redact: {response: [email]}}}",
        False, False,
    ),
    "by another method": (
        "{id: a, tools: [files/*, github/unknown], methods: GET, "
        "obligations: {redact: {response: [email]}}}",
        False, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MASKED)
def test_whether_an_answer_might_be_masked_is_told_before_any_call(kind: str) -> None:
    rules, coder, other = MASKED[kind]
    text = f"policy: p\nrules: [{rules}]\n"
    policy_set = policies(text, TOOLS)
    tool = make_call(policy_set, "files/write").tool
    told = [
        may_be_masked(policy_set, make_principal(agent=agent), tool, "POST")
        for agent in ("coder", "x")
    ]
    assert told == [coder, other]
    observing = policies(text, TOOLS, default="observe")
    assert not may_be_masked(observing, make_principal(), tool, "POST"), "nothing is masked there"


def test_c12_rules_that_always_want_different_things_hide_a_tool() -> None:
    """Both apply to every call, so that every call is refused."""
    text = (
        "policy: p\nrules:\n  - {id: a, effect: allow, tools: files/*}\n"
        "  - {id: b, tools: files/write, agents: coder, obligations: {headers: {set: {a: '1'}}}}\n"
        "  - {id: c, tools: files/write, obligations: {headers: {set: {a: '2'}}}}\n"
    )
    policy_set = policies(text, TOOLS)
    tool = make_call(policy_set, "files/write").tool
    assert not may_go_ahead(policy_set, make_principal(agent="coder"), tool)
    assert may_go_ahead(policy_set, make_principal(agent="x"), tool), "positive control"
