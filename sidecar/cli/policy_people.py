"""The people a sidecar.yaml names, and approvals that they could never give.

Knows: where people stand, whose yes counts for a rule (as it is counted when they vote), that a
tenant without people in the file has them elsewhere (keys made while it runs). Whoever is on the
machine itself may vote too, but no rule is written for that.
Must not know: how a configuration is checked, which command asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.model import Person, Principal
    from sidecar.policy.index import PolicySet
    from sidecar.policy.rule import Rule
    from sidecar.problems import Position, Problem
    from sidecar.yaml_reader import Node


def people_of(root: Node) -> dict[str, list[Person]]:
    """The people of every tenant that names any; what is none of them is passed over, since
    `config check` tells of it."""
    found: dict[str, list[Person]] = {}
    tenants = root.value.get("tenants")
    for tenant, member in tenants.value.items() if tenants and tenants.is_mapping else ():
        people = member.value.get("people") if member.is_mapping else None
        for name, said in people.value.items() if people and people.is_mapping else ():
            found.setdefault(tenant, []).append(_person(tenant, name, said))
    return found


def _person(tenant: str, name: str, said: Node) -> Person:
    from sidecar.model import Person, Role

    known = {role.value: role for role in Role}
    roles = frozenset(known[one] for one in _texts(said, "roles") if one in known)
    return Person(tenant, name, f"person:{name}", roles, frozenset(_texts(said, "groups")))


def _texts(said: Node, key: str) -> Iterator[str]:
    member = said.value.get(key) if said.is_mapping else None
    if member is not None:
        listed = member.value if member.is_list else [member]
        yield from (one.value for one in listed if isinstance(one.value, str))


def unmet_approvals(
    policy_set: PolicySet,
    people: Mapping[str, Sequence[Person]],
    agents: Sequence[Principal],
    places: Mapping[str, Position],
) -> list[Problem]:
    """A warning for every rule that asks for more yeses than the people of a tenant it applies to
    could give."""
    from sidecar.problems import Problem

    found: list[Problem] = []
    for rule in policy_set.rules:
        if rule.approval is None:
            continue
        met = {one.tenant for one in agents if all(who.matches(one) for who in rule.callers)}
        for tenant in sorted(met & people.keys()):
            said = _unmet(rule, people[tenant])
            if said is not None:
                message = f"{rule.rule_id} {said[0]} in tenant {tenant}"
                found.append(Problem(places[rule.rule_id], message, said[1], is_warning=True))
    return found


def _unmet(rule: Rule, people: Sequence[Person]) -> tuple[str, str] | None:
    """What is missing, with a hint; None if there are people enough."""
    from sidecar.approvals.states import Term, counts_for
    from sidecar.policy.fields import did_you_mean

    terms = rule.approval
    if terms is None:
        return None
    term = Term(rule.rule_id, "", terms.approvers, terms.quorum)
    count = sum(bool(counts_for(one, [term])) for one in people)
    if count >= terms.quorum:
        return None
    who = " or ".join(terms.approvers) or "any approver"
    has = f"only {count} such" if count else "none"
    known = {name for one in people for name in (one.name, *one.groups)}
    near = (did_you_mean(one, known) for one in terms.approvers if one not in known)
    hint = next((one for one in near if one), "they need the role approver, and be of the group")
    return f"wants {terms.quorum} of {who}, and sidecar.yaml names {has}", hint
