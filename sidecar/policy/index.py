"""The policy set: every rule under the tools it can meet, settled as far as a call is not needed.

Knows: that tools, exceptions, mutates, labels and risk are settled per tool, agents, teams,
environments and tenants per caller; only the rest is left for each call. What is worked out while
judging (plans of undeclared tools, callers, conclusions) is kept in bounded tables.
Must not know: YAML, files. It holds no clock and does nothing on its own.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.model import Principal, Tool
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.concluding import Conclusion, Default, Subject, by_order, concluded
from sidecar.policy.facts import Facts
from sidecar.policy.rule import Rule
from sidecar.policy.secret_names import SecretNames

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition
    from sidecar.policy.evaluation import BoundScope

PLANS_MAX: Final = 2048
CALLERS_MAX: Final = 1024
CONCLUSIONS_MAX: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class OpenRule:
    """A rule that only the call can settle, with what its condition needs to be supplied."""

    rule: Rule
    supply: BoundScope | None


class Stance(NamedTuple):
    """What every conclusion of a set has in common. Plans hold it rather than the set: a set that
    held itself would outlive its use until the next full collection."""

    revision: str
    default: Default


class Applicable:
    """The rules of one tool for one caller: those that match, and those the call settles."""

    __slots__ = (
        "_conclusions",
        "_subject",
        "_supplies",
        "has_shadow",
        "open_rules",
        "settled",
    )

    def __init__(self, stance: Stance, tool_name: str, rules: Sequence[Rule]) -> None:
        self._conclusions: dict[tuple[Rule, ...], Conclusion] = {}
        self.has_shadow = any(rule.is_shadow for rule in rules)
        self._subject = Subject(
            stance.revision,
            stance.default,
            tool_name,
            self.has_shadow,
            any(rule.run_names for rule in rules),
        )
        self.settled = tuple(rule for rule in rules if not rule.depends_on_call)
        waiting = [rule for rule in rules if rule.depends_on_call]
        self._supplies = _supplies([one for rule in rules for one in rule.expressions])
        self.open_rules = tuple(
            OpenRule(rule, self._supplies[rule.condition.scope] if rule.condition else None)
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
        rules = [rule for rule in (*self.settled, *matched) if rule not in failed]
        return concluded(sorted(rules, key=by_order), failed, self._subject)

    def number(self, expression: Condition, facts: Facts) -> int | float:
        """The number an expression of one of these rules gives; raises what it raises."""
        return self._supplies[expression.scope].number(expression, facts)


def _supplies(conditions: Sequence[Condition]) -> dict[object, BoundScope]:
    by_scope: dict[object, list[Condition]] = {}
    for condition in conditions:
        by_scope.setdefault(condition.scope, []).append(condition)
    if not by_scope:
        return {}
    from sidecar.policy.evaluation import BoundScope  # the CEL library is here: it compiled these

    return {ones[0].scope: BoundScope(ones[0].scope, ones) for ones in by_scope.values()}


class ToolPlan:
    """The rules that can meet one tool."""

    __slots__ = ("_by_caller", "_for_all", "_rules", "_stance", "tool")

    def __init__(self, stance: Stance, tool: Tool, rules: Sequence[Rule]) -> None:
        self.tool = tool
        self._stance = stance
        self._rules = tuple(rules)
        self._by_caller: dict[tuple[str, str, str, str], Applicable] = {}
        is_open = not any(rule.callers for rule in rules)
        self._for_all = Applicable(stance, tool.name, self._rules) if is_open else None

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
            found = Applicable(self._stance, self.tool.name, rules)
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
        secrets: SecretNames,
    ) -> None:
        self.revision = revision
        self._stance = Stance(revision, default)
        self.catalogue = catalogue
        self.default = default
        self.secrets = secrets
        self.rules = tuple(rules)
        self.rule_count = len(rules)
        #: Of these, how many are judged and recorded only.
        self.shadow_count = sum(rule.is_shadow for rule in rules)
        run_names = {name for rule in rules for name in (*rule.run_names, *rule.reason.run_names)}
        #: Whether every call of a run may change the next decision, or what is said of it, and not
        #: only what it gathers.
        self.counts_calls = not run_names.isdisjoint(("run.calls", "run.count"))
        #: Whether some rule counts a run's calls by tool (`run.count`).
        self.counts_by_tool = "run.count" in run_names
        self._exact: dict[str, list[Rule]] = {}
        self._spread: list[Rule] = []
        for rule in rules:
            self._file(rule)
        #: Made when first needed, those of the catalogue and those of other tools.
        self._declared = {tool.name: tool for tool in catalogue.tools}
        self._plans: dict[str, ToolPlan] = {}
        self._more: dict[Tool, ToolPlan] = {}

    def count_for(self, run_names: Container[str]) -> None:
        """A run's calls are counted too where whoever watches beside the rules reads how many
        there were. To be told before the set is in force."""
        if "run.calls" in run_names:
            self.counts_calls = True

    def _file(self, rule: Rule) -> None:
        if all(glob.is_literal for glob in rule.tools.tools):
            for pattern in dict.fromkeys(glob.pattern for glob in rule.tools.tools):
                self._exact.setdefault(pattern, []).append(rule)
        else:
            self._spread.append(rule)

    def _plan(self, tool: Tool) -> ToolPlan:
        candidates = (*self._exact.get(tool.name, ()), *self._spread)
        rules = [rule for rule in candidates if rule.tools.matches(tool)]
        return ToolPlan(self._stance, tool, sorted(rules, key=by_order))

    def pieces(self) -> list[object]:
        """All it is made of: whoever holds these can let go of the set, then of them one by one."""
        of_tools = (*self._plans.values(), *self._more.values(), *self._exact.values())
        return [*self.rules, *self.catalogue.entries, *of_tools]

    def plan(self, tool: Tool) -> ToolPlan:
        """The rules for a tool; for one that differs from the catalogue's, its own."""
        found = self._plans.get(tool.name)
        if found is not None and (found.tool is tool or found.tool == tool):
            return found
        if found is None and self._declared.get(tool.name) == tool:
            found = self._plans[tool.name] = self._plan(tool)
            return found
        found = self._more.get(tool)
        if found is None:
            if len(self._more) >= PLANS_MAX:
                self._more.clear()
            found = self._more[tool] = self._plan(tool)
        return found
