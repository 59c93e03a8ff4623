"""Why a call is judged as it is: every rule that names its tool, whether it matched, and why not.

Knows: what of a verdict is worth saying, with the values a condition read. Verdicts and decision
come from the real judging; the words beside them are an account, never an opinion.
Must not know: files, stores, how the account is laid out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from sidecar.model import Decision, Principal, ToolCall
from sidecar.policy.facts import FACTS, Facts
from sidecar.policy.hidden import NOTHING_HIDDEN, Hidden
from sidecar.policy.index import PolicySet
from sidecar.policy.matcher_words import Check, checks, fits_tool, names_tool
from sidecar.policy.reasons import Place, Reason
from sidecar.policy.rule import Rule
from sidecar.policy.runs import RunState, beginning
from sidecar.policy.secret_names import MASK
from sidecar.policy.verdicts import Judged, Verdict, judge

_LEVELS: Final = ("trust.", "risk.")
_VALUES_MAX: Final = 12
#: Texts that read like what JSON has for numbers, booleans, null, lists and objects.
_OF_ANOTHER_TYPE: Final = re.compile(r"-?[0-9.]+([eE][+-]?[0-9]+)?|true|false|null|[\[{].*")


@dataclass(frozen=True, slots=True)
class Account:
    """One rule that names the tool. `checks` are its matchers, `when` last; after a condition that
    was not looked at (another matcher does not fit) there is none for it."""

    rule: Rule
    verdict: Verdict
    checks: tuple[Check, ...]
    fits_tool: bool

    @property
    def why(self) -> str:
        """What made it so: for a no whatever does not fit, else all that does."""
        wanted = self.verdict is not Verdict.NO
        texts = [one.text for one in self.checks if one.text and (wanted or not one.holds)]
        return "; ".join(dict.fromkeys(texts))


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with the account of every rule that names the tool, in order of the rules."""

    principal: Principal
    call: ToolCall
    now_us: int
    run: RunState
    judged: Judged
    accounts: tuple[Account, ...]
    other_rules: int
    hidden: Hidden = NOTHING_HIDDEN

    @property
    def decision(self) -> Decision:
        """What was decided."""
        return self.judged.ruling.decision

    def with_decision(self, decision: Decision) -> Explanation:
        """The same account where something beside the rules had the last word."""
        judged = replace(self.judged, ruling=replace(self.judged.ruling, decision=decision))
        return replace(self, judged=judged)

    def without_rules(self, decision: Decision) -> Explanation:
        """What is said of a call that needs no rule: none was looked at, whatever it names."""
        others = self.other_rules + len(self.accounts)
        return replace(self.with_decision(decision), accounts=(), other_rules=others)


def explain(
    policy_set: PolicySet,
    principal: Principal,
    call: ToolCall,
    now_us: int,
    *,
    run: RunState | None = None,
    hidden: Hidden = NOTHING_HIDDEN,
) -> Explanation:
    """The decision on a call and why. Without `run` it is the first of its run; `hidden` is what
    is not known of it."""
    state = run if run is not None else beginning(principal.trust)
    judged = judge(policy_set, principal, call, now_us, run=state, hidden=hidden)
    facts = Facts(principal, call, now_us, state)
    accounts = [
        _account(rule, facts, judged, policy_set, hidden)
        for rule in policy_set.rules
        if names_tool(rule, facts)
    ]
    accounts.sort(key=lambda one: one.rule.order)
    others = policy_set.rule_count - len(accounts)
    return Explanation(principal, call, now_us, state, judged, tuple(accounts), others, hidden)


def _account(
    rule: Rule, facts: Facts, judged: Judged, policy_set: PolicySet, hidden: Hidden
) -> Account:
    verdict = judged.verdict(rule)
    found = checks(rule, facts)
    if rule.condition is not None and all(one.holds for one in found):
        values = "; ".join(_values(rule, facts, policy_set, hidden))
        found.append(_condition(verdict, judged.errors.get(rule, ""), values))
    if verdict is Verdict.UNKNOWN:
        names = ", ".join(judged.ruling.unknown[rule])
        found.append(Check("hidden", False, f"not recorded: {names}"))
    elif verdict is Verdict.ERROR and not (found and found[-1].key == "when"):
        found.append(Check("error", False, judged.errors[rule]))
    return Account(rule, verdict, tuple(found), fits_tool(rule, facts))


def _condition(verdict: Verdict, error: str, values: str) -> Check:
    said = {
        Verdict.YES: "when true",
        Verdict.NO: "when false",
        Verdict.ERROR: f"when failed, {error}",
        Verdict.UNKNOWN: "when cannot be told",
    }[verdict]
    return Check("when", verdict is Verdict.YES, f"{said}: {values}" if values else said)


def _values(rule: Rule, facts: Facts, policy_set: PolicySet, hidden: Hidden) -> Iterator[str]:
    """`args.amount 7` for what the condition reads, its variables included; secrets are masked."""
    condition = rule.condition
    if condition is None:
        return
    names: dict[str, None] = {}
    for reading in (condition.reading, *(one.reading for one in condition.variables)):
        names |= dict.fromkeys(f"args.{argument}" for argument in sorted(reading.arguments))
        names |= dict.fromkeys(sorted(reading.names & set(FACTS)))
    if any(name.startswith("args.") for name in names):
        names.pop("args", None)
    places = [name for name in names if not name.startswith(_LEVELS)]
    for name in places[:_VALUES_MAX]:
        if hidden.covers(name):
            yield f"{name} (not recorded)"
            continue
        place = Place("args", (name[len("args.") :],)) if name.startswith("args.") else Place(name)
        shown = Reason((place,)).fill(facts, policy_set.secrets) or "(empty)"
        kind = _kind(facts.call.args.get(place.members[0]), shown) if place.members else ""
        yield f"{name} {shown}{kind}"
    if len(places) > _VALUES_MAX:
        yield f"and {len(places) - _VALUES_MAX} more"


def _kind(value: object, shown: str) -> str:
    """What a value is, where it reads like one of another type: that is why it is not equal."""
    if isinstance(value, list) and not shown.startswith("["):
        return " (a list)"
    if not isinstance(value, str) or shown == MASK:
        return ""
    if value != value.strip():
        return " (with blanks around it)"
    return " (a text)" if _OF_ANOTHER_TYPE.fullmatch(value) else ""
