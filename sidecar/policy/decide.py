"""The decision: one call under one policy set. Pure and synchronous; never raises.

Knows: that every applicable rule is looked at, and that a failure of any kind is a deny.
Must not know: the clock (the time is an argument), I/O, how decisions are recorded.
"""

from __future__ import annotations

from dataclasses import replace

from sidecar.model import Decision, Effect, Principal, ToolCall
from sidecar.policy.concluding import Conclusion, remaining
from sidecar.policy.facts import Facts
from sidecar.policy.index import Applicable, OpenRule, PolicySet
from sidecar.policy.limits import LimitFailed, charges_of
from sidecar.policy.prospect import may_be_asked
from sidecar.policy.rule import Rule
from sidecar.policy.runs import RunState
from sidecar.policy.terms import Charge
from sidecar.policy.windows import is_inside


def decide(
    policy_set: PolicySet,
    principal: Principal,
    call: ToolCall,
    now_us: int,
    run: RunState | None = None,
) -> Decision:
    """What the policies say of a call at a moment; without `run` it is the first of its run.

    A failure of the engine itself is a deny with the code `internal_error`, in every mode.
    """
    try:
        decision = _decided(policy_set, principal, call, now_us, run)
        return as_asked(policy_set, principal, call, decision)
    except Exception as error:
        return Decision(
            effect=Effect.DENY,
            code="internal_error",
            reason=f"the policies could not be evaluated ({type(error).__name__})",
            policy_revision=policy_set.revision,
        )


def as_asked(
    policy_set: PolicySet, principal: Principal, call: ToolCall, decision: Decision
) -> Decision:
    """The decision; a client's answer on which no rule has an effect is refused where no rule lets
    its server ask for anything."""
    if decision.code != "protocol" or may_be_asked(policy_set, principal, call.tool.upstream):
        return decision
    obligations = decision.obligations
    if obligations is not None:
        obligations = remaining(obligations, Effect.DENY, policy_set.default)
    return replace(
        decision,
        effect=Effect.DENY,
        code="default_deny",
        reason=f"no rule lets {call.tool.upstream} ask for anything that could be answered",
        charges=(),
        obligations=obligations,
    )


def _decided(
    policy_set: PolicySet,
    principal: Principal,
    call: ToolCall,
    now_us: int,
    run: RunState | None,
) -> Decision:
    """What the rules for the call's tool say."""
    applicable = policy_set.plan(call.tool).applicable(principal)
    if not applicable.open_rules:
        conclusion = applicable.conclude(())
        if conclusion.is_final:
            return conclusion.decision
        facts = Facts(principal, call, now_us, run)
        return finished(conclusion, applicable, (), {}, facts, policy_set)
    facts = Facts(principal, call, now_us, run)
    matched, failed = _judge(applicable, facts)
    if failed is None:
        conclusion = applicable.conclude(matched)
    else:
        conclusion = applicable.conclude_with_failures(matched, failed)
    if conclusion.is_final:
        return conclusion.decision
    return finished(conclusion, applicable, matched, failed or {}, facts, policy_set)


def _judge(applicable: Applicable, facts: Facts) -> tuple[tuple[Rule, ...], dict[Rule, str] | None]:
    """The open rules that matched, and those that failed if there are any."""
    matched: list[Rule] = []
    failed: dict[Rule, str] | None = None
    for one in applicable.open_rules:
        try:
            if holds(one, facts):
                matched.append(one.rule)
        except Exception as error:
            failed = failed or {}
            failed[one.rule] = f"{error}"[:500] or type(error).__name__
    return tuple(matched), failed


def holds(one: OpenRule, facts: Facts) -> bool:
    """Whether all that depends on the call is true; the cheap matchers come first. Raises what a
    condition or an address that cannot be read raises."""
    rule = one.rule
    if rule.methods and facts.call.http.method not in rule.methods:
        return False
    if rule.sources is not None and not rule.sources.matches(facts.call.http.source_ip):
        return False
    if rule.during and not is_inside(rule.during, facts.now_us):
        return False
    if rule.outside and is_inside(rule.outside, facts.now_us):
        return False
    if rule.run is not None and not rule.run.matches(facts.run):
        return False
    if rule.condition is None or one.supply is None:
        return True
    return one.supply.holds(rule.condition, facts)


def finished(
    conclusion: Conclusion,
    applicable: Applicable,
    matched: tuple[Rule, ...],
    failed: dict[Rule, str],
    facts: Facts,
    policy_set: PolicySet,
) -> Decision:
    """The decision on one call: what limits count is worked out, the reason filled in. What
    cannot be counted is an error, and so a deny; its rule did match: what it wants masked is."""
    obligations = conclusion.decision.obligations
    charges: tuple[Charge, ...] = ()
    uncounted: dict[Rule, str] = {}
    for rule in conclusion.limited:
        try:
            charges += charges_of((rule,), facts, applicable.number)
        except LimitFailed as failure:
            uncounted[rule] = str(failure)
    if uncounted:
        charges = ()
        conclusion = applicable.conclude_with_failures(matched, {**failed, **uncounted})
        if obligations is not None:
            obligations = remaining(obligations, Effect.DENY, policy_set.default)
    made, reason = conclusion.decision, conclusion.reason
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
        made.reads_run,
        made.approvals,
        charges,
        obligations,
        reason,
    )
