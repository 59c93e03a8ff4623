"""One call judged rule by rule: which matched, which did not, which failed, which nobody can tell.

Knows: that the real judging has the word (the same index, the same matchers, `decide` itself), and
what follows when a rule reads something that is hidden: only then there is no decision to ask for.
Must not know: how a verdict is explained, where calls come from.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from sidecar.model import Decision, Effect, Principal, ToolCall
from sidecar.policy.decide import as_asked, decide, finished, holds
from sidecar.policy.facts import Facts
from sidecar.policy.hidden import NOTHING_HIDDEN, Hidden, ReadsOfRules
from sidecar.policy.index import Applicable, PolicySet
from sidecar.policy.rule import Rule
from sidecar.policy.runs import RunState

_ERROR_LENGTH_MAX = 500


class Verdict(enum.StrEnum):
    """What came of one rule; `unknown` if it reads what is hidden."""

    YES = "yes"
    NO = "no"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision. `unknown` gives what each rule nobody can judge reads and is hidden;
    `is_certain` tells that the effect is the same whatever they say, else the decision is that of
    the other rules."""

    decision: Decision
    unknown: dict[Rule, tuple[str, ...]] = field(default_factory=dict)
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """A ruling with the verdicts it follows from. Rules that are not listed say no."""

    ruling: Ruling
    verdicts: dict[Rule, Verdict]
    errors: dict[Rule, str]

    def verdict(self, rule: Rule) -> Verdict:
        """What came of a rule of the set."""
        return self.verdicts.get(rule, Verdict.NO)


def rule_on(
    policy_set: PolicySet,
    principal: Principal,
    call: ToolCall,
    now_us: int,
    *,
    run: RunState | None = None,
    hidden: Hidden = NOTHING_HIDDEN,
    reads: ReadsOfRules,
) -> Ruling:
    """The decision on a call of which not everything is known."""
    applicable = policy_set.plan(call.tool).applicable(principal)
    unknown: dict[Rule, tuple[str, ...]] = {}
    if hidden is not NOTHING_HIDDEN:
        # Also those that match whatever is hidden: what their limits count may not be known.
        for rule in (*applicable.settled, *(one.rule for one in applicable.open_rules)):
            out_of_sight = hidden.of(reads(rule))
            if out_of_sight:
                unknown[rule] = out_of_sight
    if not unknown:
        return Ruling(decide(policy_set, principal, call, now_us, run))
    facts = Facts(principal, call, now_us, run)
    verdicts, errors = _verdicts(applicable, facts, unknown)
    matched = tuple(one.rule for one in applicable.open_rules if verdicts[one.rule] is Verdict.YES)
    conclusion = applicable.conclude_with_failures(matched, errors)
    counted = tuple(rule for rule in conclusion.limited if rule not in unknown)
    conclusion = replace(conclusion, limited=counted)
    decision = finished(conclusion, applicable, matched, errors, facts, policy_set)
    decision = replace(as_asked(policy_set, principal, call, decision), would_be=None)
    # Each of the others may match, or fail, which is a deny: only a deny cannot be changed.
    may_change = any(not rule.is_shadow for rule in unknown)
    is_settled = decision.effect is Effect.DENY and decision.code != "default_deny"
    return Ruling(decision, unknown, is_settled or not may_change)


def judge(
    policy_set: PolicySet,
    principal: Principal,
    call: ToolCall,
    now_us: int,
    *,
    run: RunState | None = None,
    hidden: Hidden = NOTHING_HIDDEN,
) -> Judged:
    """The decision on a call and every rule's verdict. Without `run` it is the first of its run."""
    ruling = rule_on(
        policy_set, principal, call, now_us, run=run, hidden=hidden, reads=ReadsOfRules()
    )
    applicable = policy_set.plan(call.tool).applicable(principal)
    facts = Facts(principal, call, now_us, run)
    verdicts, errors = _verdicts(applicable, facts, ruling.unknown)
    by_id = {rule.rule_id: rule for rule in verdicts}
    for match in ruling.decision.matches:
        if match.error is not None:  # also of what limits count, which no matcher tells
            errors[by_id[match.rule_id]] = match.error
            verdicts[by_id[match.rule_id]] = Verdict.ERROR
    return Judged(ruling, verdicts, errors)


def _verdicts(
    applicable: Applicable, facts: Facts, unknown: dict[Rule, tuple[str, ...]]
) -> tuple[dict[Rule, Verdict], dict[Rule, str]]:
    """Every rule that meets tool and caller; with the errors of those that failed."""
    verdicts = dict.fromkeys(applicable.settled, Verdict.YES)
    errors: dict[Rule, str] = {}
    for one in applicable.open_rules:
        rule = one.rule
        if rule in unknown:
            verdicts[rule] = Verdict.UNKNOWN
            continue
        try:
            verdicts[rule] = Verdict.YES if holds(one, facts) else Verdict.NO
        except Exception as error:
            errors[rule] = f"{error}"[:_ERROR_LENGTH_MAX] or type(error).__name__
            verdicts[rule] = Verdict.ERROR
    return verdicts, errors
