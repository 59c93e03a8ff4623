"""Test files: YAML nodes become cases, every problem with its place.

Knows: every key of a test file and of a case, and which documents are tests of detections instead.
Must not know: which policies and tools there are, how a case is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.model import Effect, Principal, RiskLevel, TrustLevel
from sidecar.policy.case_values import (
    Request,
    any_text,
    called,
    code,
    http_facts,
    mapping,
    moment_us,
    policy_name,
    repetitions,
    rule_name,
    text_glob,
    tool_name,
)
from sidecar.policy.fields import (
    Field,
    Problems,
    as_node,
    did_you_mean,
    list_of,
    name,
    one_of,
    read_fields,
    text,
)
from sidecar.policy.matchers import Glob
from sidecar.policy.rules import _RULE_FIELDS
from sidecar.policy.terms import Obligations
from sidecar.problems import Position
from sidecar.yaml_reader import Node

#: 2026-01-05T10:00:00Z, a Monday.
USUAL_NOW_US: Final = 1_767_607_200_000_000
USUAL_TENANT: Final = "default"
USUAL_AGENT: Final = "agent"


@dataclass(frozen=True, slots=True)
class Case:
    """One call and what is expected of it. What the file leaves open is None or empty."""

    name: str
    position: Position
    call: str | Request
    expect: Effect
    principal: Principal
    args: Mapping[str, Any] = field(default_factory=dict)
    now_us: int = USUAL_NOW_US
    after: tuple[str, ...] = ()
    times: int = 1
    http: Mapping[str, Any] = field(default_factory=dict)
    by: str | None = None
    by_position: Position | None = None
    reason: Glob | None = None
    code: str | None = None
    obligations: Obligations | None = None


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One document that begins with `test:`. `tools` are nodes of catalogue entries by name."""

    position: Position
    policies: tuple[tuple[str, Position], ...]
    tools: Mapping[str, Node]
    cases: tuple[Case, ...]


def is_of_detections(node: Node) -> bool:
    """Whether a document is the test of detections: a case of it has `events` and no `call`."""
    cases = node.value.get("cases") if node.is_mapping and "test" in node.value else None
    listed = cases.value if cases is not None and cases.is_list else []
    mappings = (one.value for one in listed if one.is_mapping)
    return any("events" in one and "call" not in one for one in mappings)


def read_case_file(node: Node, problems: Problems) -> CaseFile:
    """A document that begins with `test:`; problems are noted, what is sound is given."""
    values = read_fields(node, "a test file", FILE_FIELDS, problems)
    agents = agents_of(values.get("agents"), problems)
    cases: list[Case] = []
    listed: Node | None = values.get("cases")
    if listed is not None and not listed.is_list:
        problems.error(listed.position, f"cases must be a list, not {listed.kind}")
    elif listed is not None:
        if not listed.value:
            problems.error(listed.position, "cases is empty: nothing would be tested")
        for one in listed.value:
            case = _read_case(one, agents, problems)
            if case is not None:
                cases.append(case)
    _refuse_twice(cases, problems)
    tools: Node | None = values.get("tools")
    if tools is not None and not tools.is_mapping:
        problems.error(tools.position, f"tools must be a mapping, not {tools.kind}")
        tools = None
    named = values.get("test", ())
    entries = tools.value if tools is not None else {}
    return CaseFile(node.position, named, entries, tuple(cases))


def read_call(
    node: Node, problems: Problems, agents: Sequence[Principal] | None = None
) -> Case | None:
    """A single call, as `policy explain` is given one: a case that expects nothing. Its `agent` is
    one of `agents` (the first unless it is named), or a mapping, with the name in it; without
    `agents`, any name."""
    values = read_fields(node, "a call", _CALL_FIELDS, problems)
    agent: Node | None = values.get("agent")
    principal: Principal | None = agents[0] if agents else Principal(USUAL_TENANT, USUAL_AGENT)
    if agent is not None and agent.is_mapping:
        principal = _agent(USUAL_AGENT, agent, problems, _NAMED_AGENT_FIELDS)
    elif agent is not None:
        principal = _named_agent(agent, problems, agents)
    if problems.error_count or principal is None:
        return None
    return _case(values, "", node.position, _with_claims(principal, values), Effect.DENY)


def _named_agent(
    node: Node, problems: Problems, agents: Sequence[Principal] | None
) -> Principal | None:
    """By its name, or TENANT/NAME where several tenants have one of this name."""
    if agents is None:
        own_name = name(node, problems)
        return Principal(USUAL_TENANT, own_name) if own_name is not None else None
    wanted = str(node.plain())
    found = [one for one in agents if wanted in (one.agent, f"{one.tenant}/{one.agent}")]
    if len(found) == 1:
        return found[0]
    names = [f"{one.tenant}/{one.agent}" for one in agents]
    if found:
        listed = ", ".join(f"{one.tenant}/{one.agent}" for one in found)
        problems.error(node.position, f'there are several agents "{wanted}"', f"one of {listed}")
    else:
        hint = did_you_mean(wanted, [*(one.agent for one in agents), *names])
        hint = hint or f"agents: {', '.join(names)}; or describe one: {{name, team, risk, …}}"
        problems.error(node.position, f'sidecar.yaml names no agent "{wanted}"', hint)
    return None


def _read_case(node: Node, agents: Mapping[str, Principal], problems: Problems) -> Case | None:
    before = problems.error_count
    values = read_fields(node, "a case", _CASE_FIELDS, problems)
    chosen: Node | None = values.get("agent")
    principal = next(iter(agents.values()))
    if chosen is not None:
        found = agents.get(chosen.value) if isinstance(chosen.value, str) else None
        if found is None:
            wanted = str(chosen.plain())
            problems.error(
                chosen.position,
                f'there is no agent "{wanted}" in this file',
                did_you_mean(wanted, agents) or f"agents: {', '.join(agents)}",
            )
        else:
            principal = found
    call = values.get("call")
    if isinstance(call, Request) and "args" in values:
        place = node.value["args"].key_position or node.position
        problems.error(place, "args come from the request that `call` describes")
    if problems.error_count > before:
        return None
    place = node.value["name"].position
    principal = _with_claims(principal, values)
    return _case(values, values["name"], place, principal, values["expect"])


def _case(
    values: Mapping[str, Any],
    case_name: str,
    position: Position,
    principal: Principal,
    expect: Effect,
) -> Case:
    by, by_position = values.get("by", (None, None))
    return Case(
        case_name,
        position,
        values["call"],
        expect,
        principal,
        values.get("args", {}),
        values.get("now", USUAL_NOW_US),
        values.get("after", ()),
        values.get("times", 1),
        values.get("http", {}),
        by,
        by_position,
        values.get("reason"),
        values.get("code"),
        values.get("obligations"),
    )


def _with_claims(principal: Principal, values: Mapping[str, Any]) -> Principal:
    if "claims" not in values:
        return principal
    return Principal(
        principal.tenant,
        principal.agent,
        principal.team,
        principal.environment,
        principal.risk,
        principal.trust,
        principal.user,
        values["claims"],
    )


def _refuse_twice(cases: list[Case], problems: Problems) -> None:
    first: dict[str, Position] = {}
    for case in cases:
        if case.name in first:
            hint = f"first at {first[case.name]}"
            problems.error(case.position, f'the case "{case.name}" is here twice', hint)
        first.setdefault(case.name, case.position)


# -- agents --------------------------------------------------------------------------------


def agents_of(node: Node | None, problems: Problems) -> dict[str, Principal]:
    """By name, never empty; the first is the default."""
    agents: dict[str, Principal] = {}
    if node is not None and not node.is_mapping:
        problems.error(node.position, f"agents must be a mapping, not {node.kind}")
    elif node is not None:
        for key, member in node.value.items():
            place = member.key_position or member.position
            own_name = name(Node(key, place), problems)
            found = _agent(own_name or USUAL_AGENT, member, problems, _AGENT_FIELDS)
            if own_name is not None:
                agents[own_name] = found or Principal(USUAL_TENANT, own_name)
    return agents or {USUAL_AGENT: Principal(USUAL_TENANT, USUAL_AGENT)}


def _agent(
    usual_name: str, node: Node, problems: Problems, fields: Mapping[str, Field]
) -> Principal | None:
    before = problems.error_count
    values = read_fields(node, "an agent", fields, problems)
    if problems.error_count > before:
        return None
    return Principal(
        values.get("tenant", USUAL_TENANT),
        values.get("name", usual_name),
        values.get("team", ""),
        values.get("environment", ""),
        values.get("risk", RiskLevel.MEDIUM),
        values.get("trust", TrustLevel.TRUSTED_INTERNAL_UNSIGNED),
    )


_AGENT_FIELDS = {
    "tenant": Field(name),
    "team": Field(any_text),
    "environment": Field(any_text),
    "risk": Field(one_of(RiskLevel)),
    "trust": Field(one_of(TrustLevel)),
}
_NAMED_AGENT_FIELDS = {"name": Field(name), **_AGENT_FIELDS}
_SHARED_FIELDS = {
    "after": Field(list_of(tool_name)),
    "call": Field(called, is_required=True),
    "args": Field(mapping("args")),
    "agent": Field(as_node),
    "http": Field(http_facts),
    "claims": Field(mapping("claims")),
    "now": Field(moment_us),
}
_CALL_FIELDS = _SHARED_FIELDS
_CASE_FIELDS = {
    "name": Field(text, is_required=True),
    **_SHARED_FIELDS,
    "times": Field(repetitions),
    "expect": Field(one_of(Effect), is_required=True),
    "by": Field(rule_name),
    "reason": Field(text_glob),
    "code": Field(code),
    "obligations": _RULE_FIELDS["obligations"],
}
FILE_FIELDS = {
    "test": Field(list_of(policy_name), is_required=True),
    "description": Field(text),
    "tools": Field(as_node),
    "agents": Field(as_node),
    "cases": Field(as_node, is_required=True),
}
