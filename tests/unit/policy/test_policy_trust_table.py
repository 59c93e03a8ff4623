"""The pack `trust` against its decision table: every combination, worked out a second time here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest
from policy_setup import MONDAY_10_UTC_US, make_call, make_principal, policies, read_pack

from sidecar.model import Decision, Principal, RiskLevel, TrustLevel
from sidecar.policy.decide import decide
from sidecar.policy.index import PolicySet
from sidecar.policy.runs import beginning

#: The six levels, and a name nobody knows.
TRUST = (*(level.label for level in TrustLevel), "friend")
TIERS = tuple(level.label for level in RiskLevel)
DEFAULTS = ("policy", "deny", "require_approval")
REVIEWERS, LEADS = "security-reviewers", "platform-leads"


class Row(NamedTuple):
    """What the catalogue, the agent and the call say."""

    registry_mutates: bool
    request_mutates: bool
    risk: str
    default_decision: str
    approval_required: bool
    trust: str
    tier: str
    force_approval: bool
    merges: str


class Expected(NamedTuple):
    """The outcome, the rule that names it, and the groups that must approve."""

    effect: str
    rule: str
    groups: frozenset[str] = frozenset()


def expected(row: Row) -> Expected:
    """The table with its corrections: mutation is registry or request, a name nobody knows is
    unknown, overlays apply to every outcome but a deny, the first of the strictest names it."""
    mutates = row.registry_mutates or row.request_mutates
    denies, asks, allows = set(), {}, set()
    if row.default_decision == "deny":
        denies.add("catalogue-denies")
    if mutates and row.trust in ("untrusted_external", "malicious_suspected", "unknown", "friend"):
        denies.add("untrusted-cannot-change")
    if denies:
        return Expected("deny", f"trust/{min(denies)}")
    if mutates and row.trust == "semi_trusted_customer":
        asks["customer-content-asks"] = REVIEWERS
    if mutates and row.tier in ("high", "critical"):
        asks["high-risk-agents-ask"] = REVIEWERS
    if row.merges in ("main", "nowhere"):
        asks["main-asks"] = LEADS
    if row.default_decision == "require_approval" or row.approval_required:
        asks["catalogue-asks"] = REVIEWERS
    if row.risk == "critical":
        asks["critical-asks"] = REVIEWERS
    if row.force_approval:
        asks["agent-must-ask"] = REVIEWERS
    if asks:
        return Expected("require_approval", f"trust/{min(asks)}", frozenset(asks.values()))
    allows.add("trusted-runs-may" if mutates else "reads")
    return Expected("allow", f"trust/{min(allows)}")


def rows() -> Iterator[Row]:
    registry = itertools.product((False, True), TIERS, DEFAULTS, (False, True))
    callers = list(itertools.product((False, True), TRUST, TIERS, (False, True)))
    for mutates, risk, default, required in registry:
        for request, trust, tier, force in callers:
            for merges in ("", "main", "agent/x", "nowhere") if mutates else ("",):
                yield Row(
                    mutates, request, risk, default, required, trust, tier, force, merges
                )  # fmt: skip


def upstream_of(row: Row) -> str:
    kind = "w" if row.registry_mutates else "r"
    required = "a" if row.approval_required else "n"
    return f"{kind}-{row.risk}-{row.default_decision.replace('_', '-')}-{required}"


@pytest.fixture(scope="module")
def policy_set() -> PolicySet:
    catalogues, upstreams = {}, {}
    for row in rows():
        name = upstream_of(row)
        if name in upstreams:
            continue
        labels = [f"default-{row.default_decision.removeprefix('require_')}"]
        labels += ["approval-required"] if row.approval_required else []
        entry = (
            f"{{mutates: {str(row.registry_mutates).lower()}, risk: {row.risk}, "
            f"labels: [{', '.join(labels)}]}}"
        )
        upstreams[name] = "mcp"
        catalogues[f"{name}.yaml"] = (
            f"catalogue: {name}\ntools:\n  act: {entry}\n  merge_pull_request: {entry}\n"
        )
    pack = read_pack("trust")
    names = (*pack, *catalogues)
    return policies(*pack.values(), *catalogues.values(), names=names, upstreams=upstreams)


def decision_on(policy_set: PolicySet, row: Row) -> Decision:
    name = f"{upstream_of(row)}/{'merge_pull_request' if row.merges else 'act'}"
    args = {"base_branch": row.merges} if row.merges not in ("", "nowhere") else {}
    call = make_call(policy_set, name, args)
    if row.request_mutates:
        call = call._replace(tool=replace(call.tool, mutates=True))
    claims = {"force_approval": True} if row.force_approval else {}
    run = beginning(TrustLevel.named(row.trust))
    return decide(policy_set, principal(row.tier, claims), call, MONDAY_10_UTC_US, run)


def principal(tier: str, claims: dict[str, bool]) -> Principal:
    return make_principal(risk=tier, claims=claims)


def test_every_combination_comes_out_as_the_table_says(policy_set: PolicySet) -> None:
    count, seen = 0, set()
    for row in rows():
        decision = decision_on(policy_set, row)
        groups = frozenset(group for one in decision.approvals for group in one.approvers)
        assert Expected(decision.effect.value, decision.rule_id or "", groups) == expected(row), row
        count += 1
        seen.add((decision.effect, decision.rule_id))
    assert count == 48 // 2 * 2 * 7 * 4 * 2 * (1 + 4)
    assert len(seen) == 10, seen


#: The rows of the table as people read it: (known, mutates, trust, tier, merges) -> outcome.
AS_WRITTEN = [
    (False, False, "trusted_internal_signed", "low", "", "deny", "trust/undeclared"),
    (False, True, "trusted_internal_signed", "low", "", "deny", "trust/undeclared"),
    (True, False, "malicious_suspected", "high", "", "allow", "trust/reads"),
    (True, True, "untrusted_external", "low", "", "deny", "trust/untrusted-cannot-change"),
    (True, True, "malicious_suspected", "low", "", "deny", "trust/untrusted-cannot-change"),
    (True, True, "unknown", "low", "", "deny", "trust/untrusted-cannot-change"),
    (True, True, "friend", "high", "main", "deny", "trust/untrusted-cannot-change"),
    (True, True, "semi_trusted_customer", "low", "", "require_approval",
     "trust/customer-content-asks"),
    (True, True, "trusted_internal_signed", "high", "", "require_approval",
     "trust/high-risk-agents-ask"),
    (True, True, "trusted_internal_unsigned", "low", "main", "require_approval",
     "trust/main-asks"),
    (True, True, "trusted_internal_unsigned", "medium", "agent/x", "allow",
     "trust/trusted-runs-may"),
]  # fmt: skip


@pytest.mark.parametrize("line", AS_WRITTEN, ids=lambda line: "-".join(map(str, line[:5])))
def test_a_row_of_the_table(
    policy_set: PolicySet, line: tuple[bool, bool, str, str, str, str, str]
) -> None:
    known, mutates, trust, tier, merges, effect, rule = line
    row = Row(mutates, False, "low", "policy", False, trust, tier, False, merges)
    if known:
        decision = decision_on(policy_set, row)
    else:
        call = make_call(policy_set, f"{upstream_of(row)}/nobody-declared-it")
        run = beginning(TrustLevel.named(trust))
        decision = decide(policy_set, principal(tier, {}), call, MONDAY_10_UTC_US, run)
    assert (decision.effect, decision.rule_id) == (effect, rule)
