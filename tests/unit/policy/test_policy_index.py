"""The index: what is settled once stays right for every tool and caller; tables stay bounded."""

from __future__ import annotations

import dataclasses

import pytest
from policy_setup import judge, make_call, make_principal, policies

from sidecar.model import Effect, RiskLevel, TrustLevel
from sidecar.policy import catalogue as catalogue_module
from sidecar.policy import index
from sidecar.policy.decide import decide

TOOLS = """catalogue: files
tools:
  read: {mutates: false, bind_headers: [If-Match], args: {path: string, tags: "[string]?"}}
  write: {}
  drop: {risk: critical}
  "mcp:prompts/get": {mutates: false, risk: low}
"""
RULES = """policy: p
rules:
  - {id: reads, effect: allow, tools: "*", mutates: false}
  - {id: named, effect: allow, tools: [files/write, files/read], agents: coder}
  - {id: risky, effect: deny, tools: "*", risk: critical}
"""


def test_a_tool_that_was_tightened_is_judged_as_it_is() -> None:
    policy_set = policies(RULES, TOOLS)
    call = make_call(policy_set, "files/read")
    assert decide(policy_set, make_principal(), call, 0).rule_id == "p/named"
    tighter = call._replace(
        tool=dataclasses.replace(call.tool, mutates=True, risk=RiskLevel.CRITICAL)
    )
    for _ in range(2):
        assert decide(policy_set, make_principal(), tighter, 0).rule_id == "p/risky"
    assert decide(policy_set, make_principal(), call, 0).effect is Effect.ALLOW


def test_a_decision_for_one_caller_is_not_given_to_another() -> None:
    policy_set = policies(RULES, TOOLS)
    for _ in range(2):
        assert judge(policy_set, "files/write").effect is Effect.ALLOW
        assert judge(policy_set, "files/write", agent={"agent": "other"}).effect is Effect.DENY
        assert judge(policy_set, "files/read", agent={"agent": "other"}).rule_id == "p/reads"


def test_tables_that_callers_fill_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PLANS_MAX", 10)
    monkeypatch.setattr(index, "CALLERS_MAX", 10)
    monkeypatch.setattr(index, "CONCLUSIONS_MAX", 10)
    monkeypatch.setattr(catalogue_module, "METHODS_KEPT_MAX", 10)
    rules = "".join(
        f"  - {{id: r{n}, effect: allow, tools: files/write, agents: '*', when: args.n == {n}}}\n"
        for n in range(30)
    )
    policy_set = policies(f"policy: p\nrules:\n{rules}", TOOLS)
    for number in range(50):
        judge(policy_set, f"files/mcp:m{number}")
        decision = judge(policy_set, "files/write", {"n": number}, agent={"agent": f"a{number}"})
        assert (decision.effect is Effect.ALLOW) is (number < 30)
    for number in range(30):
        assert judge(policy_set, "files/write", {"n": number}).rule_id == f"p/r{number}"
    plan = policy_set.plan(make_call(policy_set, "files/write").tool)
    assert len(policy_set._more) <= 10 and len(policy_set.catalogue._methods) <= 10
    assert len(plan._by_caller) <= 10
    assert all(len(one._conclusions) <= 10 for one in plan._by_caller.values())


def test_the_reason_is_filled_in_for_each_call() -> None:
    policy_set = policies(
        "policy: p\nrules: [{id: a, effect: deny, tools: files/write, reason: 'no {args.n}'}]",
        TOOLS,
    )
    assert [judge(policy_set, "files/write", {"n": n}).reason for n in (1, 2)] == ["no 1", "no 2"]


def test_a_time_is_read_once_for_a_decision() -> None:
    policy_set = policies(
        "policy: p\nrules: [{id: a, effect: deny, tools: files/write, when: now != now}]", TOOLS
    )
    assert judge(policy_set, "files/write").code == "default_deny"


def test_an_entry_may_have_no_labels_where_a_glob_gives_some() -> None:
    """`[]` is none; a key that is left out is left to the globs."""
    policy_set = policies(
        "catalogue: files\ntools:\n  '*': {labels: [reads-private, internal]}\n"
        "  plain: {}\n  open: {labels: []}\n  own: {labels: public}\n",
        "policy: p\nrules:\n  - {id: a, effect: allow, tools: files/*}\n"
        "  - {id: b, effect: deny, tools: '*', labels: reads-private}\n",
    )
    carried = {tool.name: tool.labels for tool in policy_set.catalogue.tools}
    assert carried == {
        "files/plain": ("internal", "reads-private"), "files/open": (), "files/own": ("public",),
    }  # fmt: skip
    assert policy_set.catalogue.unknown("files").tool.labels == ("internal", "reads-private")
    assert judge(policy_set, "files/open").effect is Effect.ALLOW
    assert judge(policy_set, "files/plain").effect is Effect.DENY


def test_look_ups_of_the_catalogue() -> None:
    catalogue = policies(RULES, TOOLS).catalogue
    read = catalogue.entry("files", "read")
    assert read is not None and read.bind_headers == ("if-match",)
    assert read.args is not None and read.args.is_list("tags")
    assert catalogue.mcp_tool("files", "read") is read
    assert catalogue.mcp_tool("files", "Read") is catalogue.unknown("files")
    assert catalogue.mcp_tool("files", "mcp:prompts/get") is catalogue.unknown("files")
    assert catalogue.mcp_method("files", "prompts/get").tool.mutates is False
    method = catalogue.mcp_method("files", "tools/other").tool
    assert (method.name, method.mutates, method.risk, method.returns, method.declared) == (
        "files/mcp:tools/other", True, RiskLevel.HIGH, TrustLevel.UNKNOWN, False,
    )  # fmt: skip
    assert catalogue.entry("files", "nope") is None and catalogue.entry("nope", "read") is None
    assert catalogue.unknown("nope").tool.name == "nope/unknown"
    assert catalogue.match_route("files", "GET", ()) is None
