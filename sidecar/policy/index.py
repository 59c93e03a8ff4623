"""The policy set: every rule under the tools it can meet, settled as far as a call is not needed.

Knows: that tools, exceptions, mutates, labels and risk are settled per tool, agents, teams,
environments and tenants per caller; only the rest is left for each call. What is worked out while
judging (plans of undeclared tools, callers, conclusions) is kept in bounded tables.
Must not know: YAML, files. It holds no clock and does nothing on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.model import Decision, Effect, Mode, Principal, RuleMatch, Tool
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.conditions import BoundScope, Condition
from sidecar.policy.reasons import Reason
from sidecar.policy.rule import Rule

Default = Literal["deny", "observe"]

PLANS_MAX: Final = 2048
CALLERS_MAX: Final = 1024
CONCLUSIONS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What follows from a set of rules that matched; `reason` is filled in per call if given."""

    decision: Decision
    reason: Reason | None


@dataclass(frozen=True, slots=True, eq=False)
class OpenRule:
    """A rule that only the call can settle, with what its condition needs to be supplied."""

    rule: Rule
    supply: BoundScope | None


class Applicable:
    """The rules of one tool for one caller: those that match, and those the call settles."""

    __slots__ = ("_conclusions", "_policies", "has_shadow", "open_rules", "settled", "tool_name")

    def __init__(self, policies: PolicySet, tool_name: str, rules: Sequence[Rule]) -> None:
        self._policies = policies
        self._conclusions: dict[tuple[Rule, ...], Conclusion] = {}
        self.tool_name = tool_name
        self.has_shadow = any(rule.is_shadow for rule in rules)
        self.settled = tuple(rule for rule in rules if not rule.depends_on_call)
        waiting = [rule for rule in rules if rule.depends_on_call]
        supplies = _supplies([rule.condition for rule in waiting if rule.condition is not None])
        self.open_rules = tuple(
            OpenRule(rule, supplies[rule.condition.scope] if rule.condition else None)
            for rule in waiting
        )

    def conclude(self, matched: tuple[Rule, ...]) -> Conclusion:
        """What follows when, beside the settled rules, these matched (in order)."""
        found = self._conclusions.get(matched)
        if found is None:
            if len(self._conclusions) >= CONCLUSIONS_MAX:
                self._conclusions.clear()
            found = self._conclusions[matched] = self.conclude_with_failures(matched, {})
        return found

    def conclude_with_failures(
        self, matched: Iterable[Rule], failed: dict[Rule, str]
    ) -> Conclusion:
        """The same where some conditions gave neither true nor false."""
        holding = sorted((*self.settled, *matched), key=_order)
        return self._policies.conclude(holding, failed, self.tool_name, self.has_shadow)


def _order(rule: Rule) -> tuple[str, str]:
    return rule.order


def _supplies(conditions: Sequence[Condition]) -> dict[object, BoundScope]:
    by_scope: dict[object, list[Condition]] = {}
    for condition in conditions:
        by_scope.setdefault(condition.scope, []).append(condition)
    return {ones[0].scope: BoundScope(ones[0].scope, ones) for ones in by_scope.values()}


class ToolPlan:
    """The rules that can meet one tool."""

    __slots__ = ("_by_caller", "_for_all", "_policies", "_rules", "tool")

    def __init__(self, policies: PolicySet, tool: Tool, rules: Sequence[Rule]) -> None:
        self.tool = tool
        self._policies = policies
        self._rules = tuple(rules)
        self._by_caller: dict[tuple[str, str, str, str], Applicable] = {}
        is_open = not any(rule.callers for rule in rules)
        self._for_all = Applicable(policies, tool.name, self._rules) if is_open else None

    def applicable(self, principal: Principal) -> Applicable:
        """The rules that also meet the caller."""
        if self._for_all is not None:
            return self._for_all
        key = (principal.tenant, principal.agent, principal.team, principal.environment)
        found = self._by_caller.get(key)
        if found is None:
            if len(self._by_caller) >= CALLERS_MAX:
                self._by_caller.clear()
            rules = [
                rule
                for rule in self._rules
                if all(callers.matches(principal) for callers in rule.callers)
            ]
            found = Applicable(self._policies, self.tool.name, rules)
            self._by_caller[key] = found
        return found


class PolicySet:
    """Everything loaded, ready to judge. Its meaning never changes; reloading makes a new one."""

    def __init__(
        self,
        *,
        revision: str,
        catalogue: Catalogue,
        rules: Sequence[Rule],
        default: Default,
        secrets: frozenset[str],
    ) -> None:
        self.revision = revision
        self.catalogue = catalogue
        self.default = default
        self.secrets = secrets
        self.rule_count = len(rules)
        self._exact: dict[str, list[Rule]] = {}
        self._spread: list[Rule] = []
        for rule in rules:
            self._file(rule)
        self._plans = {tool.name: self._plan(tool) for tool in catalogue.tools}
        self._more: dict[Tool, ToolPlan] = {}

    def _file(self, rule: Rule) -> None:
        if all(glob.is_literal for glob in rule.tools.tools):
            for pattern in dict.fromkeys(glob.pattern for glob in rule.tools.tools):
                self._exact.setdefault(pattern, []).append(rule)
        else:
            self._spread.append(rule)

    def _plan(self, tool: Tool) -> ToolPlan:
        candidates = (*self._exact.get(tool.name, ()), *self._spread)
        rules = [rule for rule in candidates if rule.tools.matches(tool)]
        return ToolPlan(self, tool, sorted(rules, key=_order))

    def plan(self, tool: Tool) -> ToolPlan:
        """The rules for a tool; for one that differs from the catalogue's, its own."""
        found = self._plans.get(tool.name)
        if found is not None and (found.tool is tool or found.tool == tool):
            return found
        found = self._more.get(tool)
        if found is None:
            if len(self._more) >= PLANS_MAX:
                self._more.clear()
            found = self._more[tool] = self._plan(tool)
        return found

    def conclude(
        self,
        holding: Sequence[Rule],
        failed: dict[Rule, str],
        tool_name: str,
        has_shadow: bool,
    ) -> Conclusion:
        """The strictest wins; among equals the first in order. A failure is a deny."""
        enforced = [rule for rule in holding if not rule.is_shadow]
        failures = sorted((rule for rule in failed if not rule.is_shadow), key=_order)
        effect, code, rule = _strictest(enforced, failures)
        would_be = None
        if has_shadow:
            would_be, _, _ = _strictest(holding, sorted(failed, key=_order))
        records = [rule.match for rule in holding]
        records += [
            RuleMatch(one.rule_id, one.match.rule_hash, one.effect, one.mode, text)
            for one, text in failed.items()
        ]
        reason = _reason(code, rule, tool_name)
        observes = self.default == "observe" and effect is not Effect.ALLOW
        decision = Decision(
            effect=effect,
            code=code,
            reason=reason if isinstance(reason, str) else "",
            policy_revision=self.revision,
            rule_id=rule.rule_id if rule is not None else None,
            rule_hash=rule.match.rule_hash if rule is not None else None,
            mode=Mode.OBSERVE if observes else Mode.ENFORCE,
            matches=tuple(sorted(records, key=lambda one: one.rule_id.split("/", 1))),
            would_be=would_be,
        )
        return Conclusion(decision, reason if isinstance(reason, Reason) else None)


def _strictest(
    holding: Sequence[Rule], failures: Sequence[Rule]
) -> tuple[Effect, str, Rule | None]:
    """Both in order. A deny that matched names the decision before a failure does."""
    deny = next((rule for rule in holding if rule.effect is Effect.DENY), None)
    if deny is not None:
        return Effect.DENY, "policy_deny", deny
    if failures:
        return Effect.DENY, "condition_error", failures[0]
    if holding:
        return Effect.ALLOW, "policy_allow", holding[0]
    return Effect.DENY, "default_deny", None


def _reason(code: str, rule: Rule | None, tool_name: str) -> str | Reason:
    """Details of a failure are for operators; the caller learns the rule's name."""
    if rule is None:
        return f"no rule allows {tool_name}"
    if code == "condition_error":
        return f"the condition of {rule.rule_id} could not be evaluated on this call"
    if rule.reason.is_fixed:
        return "".join(str(part) for part in rule.reason.parts)
    return rule.reason
