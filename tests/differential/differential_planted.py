"""Faults planted in the product, each of which a differential run must find.

Knows: where in the product what is decided. A fault is planted for the length of a `with`.
Must not know: how a run goes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import operator
from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR
from typing import Any

import pytest

from sidecar.model import Effect, RiskLevel
from sidecar.policy import catalogue_building, concluding, index, limits, matchers, plain
from sidecar.policy import decide as pdp
from sidecar.policy.evaluation import BoundScope
from sidecar.policy.matchers import CallerMatcher, SourceMatcher, ToolMatcher
from sidecar.policy.rule import Rule
from sidecar.policy.runs import RunMatcher
from sidecar.policy.windows import Window

Patch = pytest.MonkeyPatch
_EQUAL_THE_OTHER_WAY = {
    "_<_": operator.le, "_<=_": operator.lt, "_>_": operator.ge, "_>=_": operator.gt
}  # fmt: skip


def allow_beats_deny(patch: Patch) -> None:
    strictest = concluding._strictest

    def loosest(holding: Any, failures: Any) -> Any:
        allowing = [rule for rule in holding if rule.effect is Effect.ALLOW]
        return strictest(allowing or holding, failures)

    patch.setattr(concluding, "_strictest", loosest)


def error_is_no_match(patch: Patch) -> None:
    judge = pdp._judge
    patch.setattr(pdp, "_judge", lambda *of: (judge(*of)[0], None))


def star_covers_unknown(patch: Patch) -> None:
    patch.setattr(matchers, "allow_covers", lambda glob, tool: glob.matches(tool.name))


def except_is_ignored(patch: Patch) -> None:
    names = ToolMatcher.names
    patch.setattr(
        ToolMatcher,
        "names",
        lambda self, tool: names(dataclasses.replace(self, exceptions=()), tool),
    )


def risk_the_other_way(patch: Patch) -> None:
    def fits(self: ToolMatcher, risk: RiskLevel) -> bool:
        return self.risk is None or (
            risk >= self.risk if self.effect is Effect.ALLOW else risk <= self.risk
        )

    patch.setattr(ToolMatcher, "_risk_fits", fits)


def trust_of_limits_as_of_allow(patch: Patch) -> None:
    matches = RunMatcher.matches

    def loose(self: RunMatcher, run: Any) -> bool:
        effect = self.effect or Effect.ALLOW
        return matches(dataclasses.replace(self, effect=effect), run)

    patch.setattr(RunMatcher, "matches", loose)


def end_of_window_included(patch: Patch) -> None:
    contains = Window.contains
    patch.setattr(
        Window,
        "contains",
        lambda self, now_us: contains(self, now_us) or contains(self, now_us - 1),
    )


def shadow_decides(patch: Patch) -> None:
    patch.setattr(Rule, "is_shadow", property(lambda self: False))


def order_by_the_whole_name(patch: Patch) -> None:
    for module in (concluding, index):
        patch.setattr(module, "by_order", lambda rule: rule.rule_id)


def mapped_addresses_as_they_are(patch: Patch) -> None:
    def matches(self: SourceMatcher, source_ip: str) -> bool:
        address = ipaddress.ip_address(source_ip)
        return any(address in network for network in self.networks)

    patch.setattr(SourceMatcher, "matches", matches)


def teams_are_ignored(patch: Patch) -> None:
    matches = CallerMatcher.matches
    patch.setattr(
        CallerMatcher,
        "matches",
        lambda self, who: matches(dataclasses.replace(self, teams=()), who),
    )


def plain_order_takes_equals(patch: Patch) -> None:
    patch.setattr(plain, "_ORDERINGS", {**plain._ORDERINGS, **_EQUAL_THE_OTHER_WAY})


def failed_variable_is_false(patch: Patch) -> None:
    holds = BoundScope.holds

    def lenient(self: BoundScope, condition: Any, facts: Any) -> bool:
        try:
            return holds(self, condition, facts)
        except Exception:
            if condition.variables:
                return False
            raise

    patch.setattr(BoundScope, "holds", lenient)


def globs_of_the_catalogue_loosen(patch: Patch) -> None:
    strictest = catalogue_building.strictest

    def loosest(defaults: Any, operation: str) -> Any:
        found = strictest(defaults, operation)
        return dataclasses.replace(found, mutates=False if found.mutates else found.mutates)

    patch.setattr(catalogue_building, "strictest", loosest)


def largest_response_wins(patch: Patch) -> None:
    united = concluding.united

    def widest(several: Any) -> Any:
        ones = list(several)
        sizes = [one.max_response_bytes or 0 for one in ones]
        both = united(ones)
        if both is None or both.max_response_bytes is None:
            return both
        return dataclasses.replace(both, max_response_bytes=max(sizes))

    patch.setattr(concluding, "united", widest)


def first_approval_is_enough(patch: Patch) -> None:
    approvals = concluding._approvals
    patch.setattr(concluding, "_approvals", lambda *of: approvals(*of)[:1])


def conflict_is_settled_by_order(patch: Patch) -> None:
    patch.setattr(concluding, "_conflict", lambda holding, _: concluding._strictest(holding, ()))


def sum_rounded_down(patch: Patch) -> None:
    patch.setattr(limits, "ROUND_CEILING", ROUND_FLOOR)


def bucket_without_the_tenant(patch: Patch) -> None:
    bucket = limits.bucket

    def shared(per: Any, facts: Any) -> str:
        return bucket(per, facts).replace(facts.principal.tenant, "")

    patch.setattr(limits, "bucket", shared)


def run_is_never_read(patch: Patch) -> None:
    patch.setattr(Rule, "run_names", property(lambda self: frozenset()))


FAULTS: dict[str, Callable[[Patch], None]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        allow_beats_deny,
        error_is_no_match,
        star_covers_unknown,
        except_is_ignored,
        risk_the_other_way,
        trust_of_limits_as_of_allow,
        end_of_window_included,
        shadow_decides,
        order_by_the_whole_name,
        mapped_addresses_as_they_are,
        teams_are_ignored,
        plain_order_takes_equals,
        failed_variable_is_false,
        globs_of_the_catalogue_loosen,
        largest_response_wins,
        first_approval_is_enough,
        conflict_is_settled_by_order,
        sum_rounded_down,
        bucket_without_the_tenant,
        run_is_never_read,
    )
}


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The product with a fault."""
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        yield
