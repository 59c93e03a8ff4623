"""The agents a sidecar.yaml names, as rules see them, and rules that mean none of them.

Knows: where agents stand and what is said of them; what is no agent there is passed over, since
`config check` tells of it.
Must not know: how a configuration is checked, which command asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.model import Principal
    from sidecar.policy.index import PolicySet
    from sidecar.policy.rule import Rule
    from sidecar.problems import Position, Problem
    from sidecar.yaml_reader import Node


def agents_of(root: Node) -> list[Principal]:
    """Every agent of every tenant, who calls without a credential first; the one that is there if
    none is named."""
    from sidecar.model import Principal

    tenants = root.value.get("tenants")
    if tenants is None or not tenants.is_mapping or not tenants.value:
        return [Principal("default", "agent")]
    found = [
        _agent(tenant, name, said)
        for tenant, member in tenants.value.items()
        for name, said in _members(member, "agents")
    ]
    identity = root.value.get("identity")
    usual = identity.plain().get("default_agent") if identity and identity.is_mapping else None
    return sorted(found, key=lambda one: f"{one.tenant}/{one.agent}" != usual)


def _members(node: Node, key: str) -> Iterator[tuple[str, Node]]:
    below = node.value.get(key) if node.is_mapping else None
    if below is not None and below.is_mapping:
        yield from below.value.items()


def _agent(tenant: str, name: str, said: Node) -> Principal:
    from sidecar.model import Principal, RiskLevel, TrustLevel

    values = said.plain() if said.is_mapping else {}
    risks = {level.label: level for level in RiskLevel}
    trusts = {level.label: level for level in TrustLevel}
    return Principal(
        tenant,
        name,
        str(values.get("team", "")),
        str(values.get("environment", "")),
        risks.get(str(values.get("risk")), RiskLevel.MEDIUM),
        trusts.get(str(values.get("trust")), TrustLevel.TRUSTED_INTERNAL_UNSIGNED),
    )


def unmet_callers(
    policy_set: PolicySet, agents: Sequence[Principal], places: Mapping[str, Position]
) -> list[Problem]:
    """A warning for every rule that no agent of the configuration can meet, and for every name of
    callers that is one keystroke from one there is; those of packs, which are for everybody, are
    left out."""
    from sidecar.policy.argument_slips import is_a_slip
    from sidecar.policy.fields import did_you_mean
    from sidecar.problems import Problem

    found: list[Problem] = []
    for rule in policy_set.rules:
        place = places[rule.rule_id]
        if place.source.startswith("pack:"):
            continue
        named = list(_named(rule, agents))
        if any(all(one.matches(agent) for one in rule.callers) for agent in agents):
            for pattern, known in named:
                near = [one for one in known if is_a_slip(pattern, one)]
                if near and pattern not in known:
                    message = f'{rule.rule_id}: "{pattern}" is nobody whom sidecar.yaml names'
                    hint = f'did you mean "{near[0]}"?'
                    found.append(Problem(place, message, hint, is_warning=True))
            continue
        hints = (did_you_mean(pattern, known) for pattern, known in named)
        message = f"{rule.rule_id} is for none of the agents that sidecar.yaml names"
        hint = next((hint for hint in hints if hint), "")
        found.append(Problem(place, message, hint, is_warning=True))
    return found


def _named(rule: Rule, agents: Sequence[Principal]) -> Iterator[tuple[str, list[str]]]:
    """What a rule says of its callers, each beside what the configuration has of the kind."""
    for one in rule.callers:
        for globs, known in (
            (one.agents, {agent.agent for agent in agents}),
            (one.teams, {agent.team for agent in agents}),
            (one.environments, {agent.environment for agent in agents}),
            (one.tenants, {agent.tenant for agent in agents}),
        ):
            for glob in globs:
                yield glob.pattern, sorted(known - {""})
