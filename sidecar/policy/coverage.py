"""Which rules the cases of tests have met: each should match once, and miss once if it can miss.

Knows: what counts as matching, and as reaching a rule without matching it.
Must not know: cases, files, how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.policy.explain import Explanation
from sidecar.policy.matcher_words import MATCHERS
from sidecar.policy.rule import Rule
from sidecar.policy.verdicts import Verdict


@dataclass(slots=True)
class RuleCoverage:
    """How often calls that the rule names matched it, did not, or made it fail."""

    rule: Rule
    matched: int = 0
    missed: int = 0
    failed: int = 0

    @property
    def lacks(self) -> str:
        """What no case shows of it yet, "" if nothing."""
        if not self.matched:
            return "never matched"
        return "always matched" if can_miss(self.rule) and not self.missed else ""


def can_miss(rule: Rule) -> bool:
    """Whether a call to a tool of the rule may fail to match it: it has more than `tools`."""
    tools = rule.tools
    if tools.exceptions or tools.labels or tools.mutates is not None or tools.risk is not None:
        return True
    return any(getattr(rule, key) for key in (*MATCHERS, "condition") if key != "tools")


class Coverage:
    """Counts over any number of judged calls."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.by_rule = {rule.rule_id: RuleCoverage(rule) for rule in rules}

    def note(self, judged: Iterable[Explanation]) -> None:
        """Counts what became of every rule that these calls reached."""
        for found in judged:
            for account in found.accounts:
                counted = self.by_rule.get(account.rule.rule_id)
                if counted is None:
                    continue
                counted.matched += account.verdict is Verdict.YES
                counted.missed += account.verdict is Verdict.NO
                counted.failed += account.verdict is Verdict.ERROR

    @property
    def lacking(self) -> list[RuleCoverage]:
        """Rules of which no case shows all there is to show, in order."""
        found = [one for one in self.by_rule.values() if one.lacks]
        return sorted(found, key=lambda one: one.rule.order)

    @property
    def percent(self) -> float:
        """Of all rules; 100 if there are none."""
        count = len(self.by_rule)
        return 100.0 if not count else 100.0 * (count - len(self.lacking)) / count


def coverage_line(one: RuleCoverage, width: int) -> str:
    """`trust/high-risk-agents-ask  matched 0, not 9  <- never matched`."""
    failed = f", failed {one.failed}" if one.failed else ""
    mark = f"  <- {one.lacks}" if one.lacks else ""
    return f"{one.rule.rule_id.ljust(width)}  matched {one.matched}, not {one.missed}{failed}{mark}"
