"""From the rules that matched to what follows: the strictest effect, its reason, all obligations.

Knows: deny before failure before approval before allow before the default; that obligations and
approvals of all rules unite; what `observe` leaves of it; the one operation that passes by default.
Must not know: how a rule is matched, the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from sidecar.model import Decision, Effect, Mode, RuleMatch
from sidecar.policy.matchers import CLIENT_ANSWER, UNKNOWN
from sidecar.policy.reasons import Reason
from sidecar.policy.rule import Rule
from sidecar.policy.terms import ApprovalTerms, Obligations, ObligationsConflict, united

Default = Literal["deny", "observe"]


class Subject(NamedTuple):
    """What a conclusion is about, whatever rules matched."""

    revision: str
    default: Default
    tool_name: str
    has_shadow: bool
    reads_run: bool

    @property
    def undecided(self) -> _Verdict:
        """What holds where no rule has an effect."""
        is_answer = self.tool_name.partition("/")[2] == CLIENT_ANSWER
        return _PASSES if is_answer else _REFUSED


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What follows from a set of rules that matched. `reason` is filled in per call if given, and
    what `limited` count is worked out, before it is the decision (`is_final` if neither)."""

    decision: Decision
    reason: Reason | None
    limited: tuple[Rule, ...] = ()
    is_final: bool = True


def concluded(holding: Sequence[Rule], failed: dict[Rule, str], subject: Subject) -> Conclusion:
    """The strictest wins; among equals the first in order. A failure is a deny.

    `holding` are the rules that matched, in order; `failed` those that could not be judged.
    """
    enforced = [rule for rule in holding if not rule.is_shadow]
    failures = sorted((rule for rule in failed if not rule.is_shadow), key=by_order)
    obligations, conflict = _united(enforced)
    verdict = _verdict(enforced, failures, conflict, subject.undecided)
    would_be = None
    if subject.has_shadow:
        of_all = sorted(failed, key=by_order)
        would_be = _verdict(holding, of_all, _united(holding)[1], subject.undecided).effect
    if obligations is not None:
        obligations = remaining(obligations, verdict.effect, subject.default)
    reason = _reason(verdict, subject.tool_name)
    is_stricter = verdict.effect is not Effect.ALLOW
    rule = verdict.rule
    decision = Decision(
        effect=verdict.effect,
        code=verdict.code,
        reason=reason if isinstance(reason, str) else "",
        policy_revision=subject.revision,
        rule_id=rule.rule_id if rule is not None else None,
        rule_hash=rule.match.rule_hash if rule is not None else None,
        mode=Mode.OBSERVE if is_stricter and subject.default == "observe" else Mode.ENFORCE,
        matches=_matches(holding, failed),
        would_be=would_be,
        reads_run=subject.reads_run,
        approvals=_approvals(verdict.effect, enforced),
        obligations=obligations,
    )
    filled = reason if isinstance(reason, Reason) else None
    goes_ahead = verdict.effect is not Effect.DENY
    limited = tuple(rule for rule in enforced if rule.limits) if goes_ahead else ()
    return Conclusion(decision, filled, limited, filled is None and not limited)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """An effect, its code, and the rule that names it (`text` where its reason does not)."""

    effect: Effect
    code: str
    rule: Rule | None = None
    text: str = ""


_REFUSED: Final = _Verdict(Effect.DENY, "default_deny")
_PASSES: Final = _Verdict(Effect.ALLOW, "protocol", text="carries the protocol itself")


def _verdict(
    holding: Sequence[Rule], failures: Sequence[Rule], conflict: str, undecided: _Verdict
) -> _Verdict:
    """What these rules together say, both in order; `conflict` is a header they disagree on."""
    verdict = _strictest(holding, failures) or undecided
    if conflict and verdict.effect is not Effect.DENY:
        return _conflict(holding, conflict)
    return verdict


def _strictest(holding: Sequence[Rule], failures: Sequence[Rule]) -> _Verdict | None:
    """Both in order. A deny that matched names the decision before a failure does."""
    deny = _first(holding, Effect.DENY)
    if deny is not None:
        return _Verdict(Effect.DENY, "policy_deny", deny)
    if failures:
        return _Verdict(Effect.DENY, "condition_error", failures[0])
    asks = _first(holding, Effect.REQUIRE_APPROVAL)
    if asks is not None:
        return _Verdict(Effect.REQUIRE_APPROVAL, "approval_required", asks)
    allows = _first(holding, Effect.ALLOW)
    if allows is not None:
        return _Verdict(Effect.ALLOW, "policy_allow", allows)
    return None


def _first(rules: Sequence[Rule], effect: Effect) -> Rule | None:
    return next((rule for rule in rules if rule.effect is effect), None)


def _conflict(rules: Sequence[Rule], header: str) -> _Verdict:
    """Rules that want different things of one header: whichever were carried out, one would not."""
    rule = next(one for one in rules if one.obligations and one.obligations.names(header))
    text = f"the rules that apply want different things of the header {header}"
    return _Verdict(Effect.DENY, "obligations_conflict", rule, text)


def _united(rules: Sequence[Rule]) -> tuple[Obligations | None, str]:
    """All obligations together, or the header two rules want different things of."""
    wanted = [rule.obligations for rule in rules if rule.obligations is not None]
    if not wanted:
        return None, ""
    try:
        return united(wanted), ""
    except ObligationsConflict as conflict:
        agreed = [Obligations(request=one.request, add_labels=one.add_labels) for one in wanted]
        return united(agreed), str(conflict)


def remaining(obligations: Obligations, effect: Effect, default: Default) -> Obligations | None:
    """What only observes changes nothing, but the run goes on gathering. Of a call that is
    refused, what would be masked is masked in the record."""
    if default == "observe":
        labels = obligations.add_labels
        return Obligations(add_labels=labels) if labels else None
    if effect is Effect.DENY:
        return Obligations(request=obligations.request) if obligations.request else None
    return obligations


def _approvals(effect: Effect, rules: Sequence[Rule]) -> tuple[ApprovalTerms, ...]:
    if effect is not Effect.REQUIRE_APPROVAL:
        return ()
    return tuple(rule.approval for rule in rules if rule.approval is not None)


def _matches(holding: Sequence[Rule], failed: dict[Rule, str]) -> tuple[RuleMatch, ...]:
    records = [rule.match for rule in holding]
    records += [
        RuleMatch(one.rule_id, one.match.rule_hash, one.effect, one.mode, text)
        for one, text in failed.items()
    ]
    return tuple(sorted(records, key=lambda one: one.rule_id.split("/", 1)))


def _reason(verdict: _Verdict, tool_name: str) -> str | Reason:
    """Details of a failure are for operators; the caller learns the rule's name."""
    rule = verdict.rule
    if verdict.text:
        return verdict.text
    if rule is None:
        is_declared = not tool_name.endswith(f"/{UNKNOWN}")
        more = "" if is_declared else ", and no catalogue declares what was called"
        return f"no rule allows {tool_name}{more}"
    if verdict.code == "condition_error":
        return f"the condition of {rule.rule_id} could not be evaluated on this call"
    if rule.reason.is_fixed:
        return "".join(str(part) for part in rule.reason.parts)
    return rule.reason


def by_order(rule: Rule) -> tuple[str, str]:
    """The key by which rules are put in order."""
    return rule.order
