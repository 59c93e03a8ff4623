"""The decision: one call under one policy set. Pure and synchronous; never raises.

Knows: that every applicable rule is looked at, and that a failure of any kind is a deny.
Must not know: the clock (the time is an argument), I/O, how decisions are recorded.
"""

from __future__ import annotations

from sidecar.model import Decision, Effect, Principal, ToolCall
from sidecar.policy.facts import Facts
from sidecar.policy.index import Applicable, Conclusion, OpenRule, PolicySet
from sidecar.policy.rule import Rule
from sidecar.policy.windows import is_inside


def decide(policy_set: PolicySet, principal: Principal, call: ToolCall, now_us: int) -> Decision:
    """What the policies say of a call at a moment.

    A failure of the engine itself is a deny with the code `internal_error`, in every mode.
    """
    try:
        applicable = policy_set.plan(call.tool).applicable(principal)
        if applicable.open_rules:
            facts = Facts(principal, call, now_us)
            conclusion = _judge(applicable, facts)
            if conclusion.reason is None:
                return conclusion.decision
            return _with_reason(conclusion, facts, policy_set)
        conclusion = applicable.conclude(())
        if conclusion.reason is None:
            return conclusion.decision
        return _with_reason(conclusion, Facts(principal, call, now_us), policy_set)
    except Exception as error:
        return Decision(
            effect=Effect.DENY,
            code="internal_error",
            reason=f"the policies could not be evaluated ({type(error).__name__})",
            policy_revision=policy_set.revision,
        )


def _judge(applicable: Applicable, facts: Facts) -> Conclusion:
    matched: list[Rule] = []
    failed: dict[Rule, str] | None = None
    for one in applicable.open_rules:
        try:
            if _holds(one, facts):
                matched.append(one.rule)
        except Exception as error:
            failed = failed or {}
            failed[one.rule] = f"{error}"[:500] or type(error).__name__
    if failed is None:
        return applicable.conclude(tuple(matched))
    return applicable.conclude_with_failures(matched, failed)


def _holds(one: OpenRule, facts: Facts) -> bool:
    """Whether all that depends on the call is true; the cheap matchers come first."""
    rule = one.rule
    if rule.methods and facts.call.http.method not in rule.methods:
        return False
    if rule.sources is not None and not rule.sources.matches(facts.call.http.source_ip):
        return False
    if rule.during and not is_inside(rule.during, facts.now_us):
        return False
    if rule.outside and is_inside(rule.outside, facts.now_us):
        return False
    if rule.condition is None or one.supply is None:
        return True
    return one.supply.holds(rule.condition, facts)


def _with_reason(conclusion: Conclusion, facts: Facts, policy_set: PolicySet) -> Decision:
    made = conclusion.decision
    reason = conclusion.reason
    return Decision(
        made.effect,
        made.code,
        reason.fill(facts, policy_set.secrets) if reason is not None else made.reason,
        made.policy_revision,
        made.rule_id,
        made.rule_hash,
        made.mode,
        made.matches,
        made.would_be,
    )
