"""The second evaluator: every rule looked at, one after the other, from files as plain data.

No index, no order that matters, nothing kept from call to call. Written from LANGUAGE.md alone.

Knows: the semantics of section 2. Must not know: the product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twin_functions import Fault
from twin_interpreter import evaluate
from twin_matching import meets_call, meets_caller, meets_run, meets_tool
from twin_terms import approval, charges_of, in_conflict, united
from twin_values import TRUSTS
from twin_world import Call, Judged, Seen, World, scope_of, seen_of


@dataclass
class Answer:
    """What the twin says. `rules` are those that may name the decision (one, but where several
    are equally to blame); `failed` are the rules that could not be evaluated, with those of which
    it was a limit that could not."""

    effect: str
    code: str
    rules: tuple[str, ...] = ()
    approvals: list[tuple[Any, ...]] = field(default_factory=list)
    charges: list[tuple[Any, ...]] = field(default_factory=list)
    obligations: dict[str, Any] = field(default_factory=dict)
    matched: list[tuple[str, str | None, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_limits: bool = False
    would_be: str | None = None
    mode: str = "enforce"

    @property
    def forward(self) -> bool:
        return self.effect == "allow" or self.mode == "observe"


def decide(world: World, call: Call) -> Answer:
    """The answer to one call."""
    seen = seen_of(world, call)
    judged = _judged(seen)
    real = [one for one in judged if not one.is_shadow]
    answer, faults = _concluded(seen, real)
    failing = list(faults)
    if len(real) < len(judged):
        in_force = _strictest(judged).effect
        if in_force != "deny":  # what limits in shadow would count must be a number all the same
            failing += [one for one in judged if one.is_shadow and _cannot_count(seen, one)]
        answer.would_be = "deny" if failing else in_force
    answer.obligations = _kept(world, answer, [one for one in real if not one.has_failed])
    answer.matched = [
        (one.name, one.effect, _mode(one))
        for one in judged
        if not one.has_failed and one not in failing
    ]
    answer.failed = [(one.name, _mode(one)) for one in judged if one.has_failed or one in failing]
    answer.failed_limits = bool(faults)
    if world.default == "observe" and answer.effect != "allow":
        answer.mode = "observe"
    return answer


def _mode(one: Judged) -> str:
    return "shadow" if one.is_shadow else "enforce"


def _judged(seen: Seen) -> list[Judged]:
    """Every rule that matched or failed."""
    found = []
    for policy in seen.world.policies:
        for rule in policy["rules"]:
            try:
                holds = _matches(policy, rule, seen) and _holds(policy, rule, seen)
            except Fault:
                holds = None
            if holds is not False:
                is_shadow = "shadow" in (policy.get("mode"), rule.get("mode"))
                found.append(Judged(policy, rule, is_shadow, has_failed=holds is None))
    return found


def _matches(policy: dict[str, Any], rule: dict[str, Any], seen: Seen) -> bool:
    """All matchers, before any condition."""
    call, run = seen.call, seen.run
    return (
        meets_tool(rule, seen.tool)
        and meets_caller(policy, call.principal)
        and meets_caller(rule, call.principal)
        and meets_call(rule, call.http, call.now_us)
        and meets_run(rule, TRUSTS.index(run["trust"]), run["labels"])
    )


def _holds(policy: dict[str, Any], rule: dict[str, Any], seen: Seen) -> bool:
    if "when" not in rule:
        return True
    value = evaluate(rule["when"].tree, scope_of(policy, seen))
    if not isinstance(value, bool):
        raise Fault("a condition that gives no bool")
    return value


def _strictest(judged: list[Judged]) -> Answer:
    """The effect of these rules together: deny, else a failure, else approval, else allow, else
    the default; the lowest (policy, id) among equals names it. Then headers must agree."""
    matched = sorted((one for one in judged if not one.has_failed), key=lambda one: one.key)
    failed = sorted((one for one in judged if one.has_failed), key=lambda one: one.key)
    of = {
        effect: [one.name for one in matched if one.effect == effect]
        for effect in ("deny", "require_approval", "allow")
    }
    if of["deny"]:
        return Answer("deny", "policy_deny", (of["deny"][0],))
    if failed:
        return Answer("deny", "condition_error", (failed[0].name,))
    if not of["require_approval"] and not of["allow"]:
        return Answer("deny", "default_deny")
    to_blame = in_conflict(matched)
    if to_blame:
        return Answer("deny", "obligations_conflict", tuple(to_blame))
    if of["require_approval"]:
        return Answer("require_approval", "approval_required", (of["require_approval"][0],))
    return Answer("allow", "policy_allow", (of["allow"][0],))


def _concluded(seen: Seen, judged: list[Judged]) -> tuple[Answer, list[Judged]]:
    """What these rules make of the call, and the rules whose limits failed on it."""
    answer = _strictest(judged)
    if answer.effect == "deny":
        return answer, []
    matched = sorted((one for one in judged if not one.has_failed), key=lambda one: one.key)
    faults = []
    for one in matched:
        try:
            answer.charges += charges_of(seen, one)
        except Fault:
            faults.append(one)
    if faults:
        return Answer("deny", "condition_error", (faults[0].name,)), faults
    if answer.effect == "require_approval":
        asking = [one for one in matched if one.effect == "require_approval"]
        answer.approvals = [approval(one) for one in asking]
    return answer, []


def _cannot_count(seen: Seen, one: Judged) -> bool:
    """Whether what a limit of the rule counts cannot be worked out on this call."""
    if one.has_failed:
        return False
    try:
        charges_of(seen, one)
    except Fault:
        return True
    return False


def _kept(world: World, answer: Answer, matched: list[Judged]) -> dict[str, Any]:
    """The obligations that count. What is only observed is changed in nothing, but the run goes
    on gathering; of what is refused the record still masks what is asked."""
    if world.default != "observe" and answer.effect != "deny":
        return united(matched)
    key = "add_labels" if world.default == "observe" else "redact.request"
    both = united(matched)
    return {key: both[key]} if key in both else {}
