"""What of two answers must be equal, and what differs.

Knows: both forms of an answer. Must not know: how either was found.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import twin
from differential_product import judged, loaded, obligations
from twin import Answer
from twin_catalogue import Facts, as_list
from twin_matching import meets_caller, meets_tool
from twin_tree import Cel, Tree, nodes
from twin_world import Call, World

from sidecar.model import Decision
from sidecar.policy.index import PolicySet

#: Other states of a run. A decision that says it does not read the run is the same in each.
OTHER_RUNS: tuple[dict[str, Any], ...] = (
    {"trust": "unknown", "labels": ["moves-money", "reads-private", "sends-external"], "calls": 7,
     "id": "r-2"},
    {"trust": "trusted_internal_signed", "labels": [], "calls": 0, "id": ""},
)  # fmt: skip


@dataclass
class Buckets:
    """What both sides count in, over all calls of one set: one name here is one name there."""

    ours: dict[Any, Any] = field(default_factory=dict)
    theirs: dict[Any, Any] = field(default_factory=dict)

    def differ(self, our: Any, their: Any) -> bool:
        known = self.ours.setdefault(our, their), self.theirs.setdefault(their, our)
        return known != (their, our)


@dataclass(frozen=True)
class Pair:
    """One policy set on both sides. `naming_run` are the rules that name the run anywhere."""

    world: World
    policy_set: PolicySet
    buckets: Buckets = field(default_factory=Buckets)
    naming_run: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = ()

    @classmethod
    def of(cls, world: World) -> Pair:
        """Raises what `loaded` raises."""
        naming = [
            (policy, rule)
            for policy in world.policies
            for rule in policy["rules"]
            if _rule_names_run(world, policy, rule)
        ]
        return cls(world, loaded(world), naming_run=tuple(naming))


@dataclass(frozen=True)
class Compared:
    """Both answers to one call; `differences` has a text under each thing that differs."""

    tool: Facts
    answer: Answer
    decision: Decision
    differences: dict[str, str]


def compare(pair: Pair, call: Call) -> Compared:
    """Asks both sides."""
    tool = pair.world.tool(call.tool)
    answer, decision = twin.decide(pair.world, call), judged(pair.policy_set, call)
    found = {
        key: f"{ours!r} by the twin, {theirs!r} by the product"
        for key, (ours, theirs) in _both(answer, decision).items()
        if ours != theirs
    }
    if (decision.rule_id or "") not in (answer.rules or ("",)):
        found["rule"] = f"{answer.rules} by the twin, {decision.rule_id} by the product"
    found |= _buckets(answer, decision, pair.buckets) if "charges" not in found else {}
    found |= _reads_run(pair, call, tool, answer, decision)
    return Compared(tool, answer, decision, found)


def _both(answer: Answer, decision: Decision) -> dict[str, tuple[Any, Any]]:
    failed = [(one.rule_id, str(one.mode)) for one in decision.matches if one.error is not None]
    matched = [
        (one.rule_id, one.effect and str(one.effect), str(one.mode))
        for one in decision.matches
        if one.error is None
    ]
    approvals = [
        (one.rule_id, one.approvers, one.quorum, one.expires_us, one.hold_us)
        for one in decision.approvals
    ]
    charges = [
        (one.rule_id, one.amount, one.max, one.window_us, one.is_sum, one.is_shared)
        for one in decision.charges
    ]
    return {
        "effect": (answer.effect, str(decision.effect)),
        "code": (answer.code, decision.code),
        "mode": (answer.mode, str(decision.mode)),
        "forward": (answer.forward, decision.forward),
        "matched": (sorted(answer.matched), sorted(matched)),
        "failed": (sorted(answer.failed), sorted(failed)),
        # Where no shadow rule matched, the product may say nothing or the effect once more.
        "would_be": (answer.would_be or answer.effect, str(decision.would_be or decision.effect)),
        "obligations": (answer.obligations, obligations(decision)),
        "approvals": (sorted(answer.approvals), sorted(approvals)),
        "charges": (sorted((rule, *rest) for rule, _, _, *rest in answer.charges), sorted(charges)),
    }


def _buckets(answer: Answer, decision: Decision, buckets: Buckets) -> dict[str, str]:
    """Equal buckets of equal limits exactly where the twin's are equal."""
    theirs: dict[str, list[tuple[str, str]]] = {}
    for charge in decision.charges:
        theirs.setdefault(charge.rule_id, []).append((charge.limit, charge.key))
    for rule, number, bucket, *_ in answer.charges:
        their = theirs[rule][number]
        if buckets.differ((rule, number, bucket), their):
            return {"bucket": f"{rule} {number} {bucket} by the twin, {their} by the product"}
    return {}


def _reads_run(
    pair: Pair, call: Call, tool: Facts, answer: Answer, decision: Decision
) -> dict[str, str]:
    """`reads_run` must be said where another run leads elsewhere, and only where a rule that
    applies to tool and caller names the run at all."""
    may_read = any(
        meets_tool(rule, tool)
        and meets_caller(policy, call.principal)
        and meets_caller(rule, call.principal)
        for policy, rule in pair.naming_run
    )
    if decision.reads_run:
        return {} if may_read else {"reads_run": "no rule that applies names the run"}
    if may_read:
        for run in OTHER_RUNS:
            other = twin.decide(pair.world, dataclasses.replace(call, run=run))
            if _substance(other) != _substance(answer):
                return {"reads_run": f"the run {run} would make it {other.effect} {other.rules}"}
    return {}


def _substance(answer: Answer) -> Any:
    return (answer.effect, answer.code, answer.rules, answer.charges, answer.approvals,
            answer.obligations)  # fmt: skip


def _rule_names_run(world: World, policy: dict[str, Any], rule: dict[str, Any]) -> bool:
    limits = as_list(rule.get("limits"))
    if "run" in rule or any("run" in as_list(limit.get("per")) for limit in limits):
        return True
    texts = [one for one in (rule.get("when"), *(limit.get("sum") for limit in limits)) if one]
    return "{run." in rule.get("reason", "") or any(
        _tree_names_run(world, policy, one.tree) for one in texts
    )


def _tree_names_run(world: World, policy: dict[str, Any], tree: Tree) -> bool:
    variables: dict[str, Cel] = {}
    for other in world.policies:
        if other is policy or other["policy"] in as_list(policy.get("import")):
            variables |= other.get("variables", {})
    return any(
        node[0] == "counted"
        or (node[0] == "name" and node[1].startswith("run."))
        or (node[0] == "variable" and _tree_names_run(world, policy, variables[node[1]].tree))
        for node in nodes(tree)
    )
