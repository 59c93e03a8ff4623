"""A rule ready to judge.

Knows: what a rule holds once its file is read and its condition compiled.
Must not know: YAML, tools, the order of judging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.model import Effect, Mode, RuleMatch
from sidecar.policy.limits import Limit
from sidecar.policy.matchers import CallerMatcher, SourceMatcher, ToolMatcher
from sidecar.policy.reasons import Reason
from sidecar.policy.runs import RunMatcher
from sidecar.policy.terms import ApprovalTerms, Obligations
from sidecar.policy.windows import Window

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule ready to judge. `match` is what a decision records when it matched. Without an effect
    it only adds limits and obligations."""

    rule_id: str
    order: tuple[str, str]
    effect: Effect | None
    mode: Mode
    tools: ToolMatcher
    callers: tuple[CallerMatcher, ...]
    methods: frozenset[str]
    sources: SourceMatcher | None
    during: tuple[Window, ...]
    outside: tuple[Window, ...]
    condition: Condition | None
    reason: Reason
    match: RuleMatch
    run: RunMatcher | None = None
    limits: tuple[Limit, ...] = ()
    approval: ApprovalTerms | None = None
    obligations: Obligations | None = None
    is_policy_in_shadow: bool = False

    @property
    def is_shadow(self) -> bool:
        """Whether it is judged and recorded only."""
        return self.mode is Mode.SHADOW

    @property
    def promotable(self) -> str:
        """What of it `policy promote` takes: its name, or the policy's where all of that is in
        shadow, for no rule leaves it alone; "" of a rule that decides."""
        if not self.is_shadow:
            return ""
        return self.order[0] if self.is_policy_in_shadow else self.rule_id

    @property
    def depends_on_call(self) -> bool:
        """Whether tool and caller leave open if it matches."""
        return bool(
            self.methods
            or self.sources
            or self.during
            or self.outside
            or self.run
            or self.condition
        )

    @property
    def run_names(self) -> frozenset[str]:
        """What of the run decides whether it matches, and what its limits count."""
        names = set() if self.run is None else {"run.trust", "run.labels"}
        for expression in self.expressions:
            names |= expression.run
        if any("run" in limit.per for limit in self.limits):
            names.add("run.started")
        return frozenset(names)

    @property
    def expressions(self) -> tuple[Condition, ...]:
        """Its condition and the sums of its limits."""
        found = (self.condition, *(limit.sum for limit in self.limits))
        return tuple(one for one in found if one is not None)
