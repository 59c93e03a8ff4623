"""The parts of a rule that are mappings: `run`, `limits`, `approval`.

Knows: their keys, the forms and bounds of the values.
Must not know: CEL (a `sum` stays a node here), other rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sidecar.model import Effect, TrustLevel
from sidecar.policy.fields import (
    Field,
    Problems,
    boolean,
    did_you_mean,
    list_of,
    name,
    one_of,
    read_fields,
    text,
)
from sidecar.policy.quantities import bounded_duration, duration_us
from sidecar.policy.rule_values import condition_text
from sidecar.policy.runs import RunMatcher
from sidecar.policy.terms import SUM_SCALE, ApprovalTerms
from sidecar.problems import Position
from sidecar.yaml_reader import Node

CALLS_MAX: Final = 1_000_000_000
SUM_MAX: Final = 9_000_000_000_000
WINDOW_MAX_US: Final = 366 * 86_400_000_000
QUORUM_MAX: Final = 100
#: Those of `approvals` in sidecar.yaml: what is beyond them is said, and not quietly cut.
EXPIRES_MIN_US: Final = 1_000_000
EXPIRES_MAX_US: Final = 30 * 86_400_000_000
HOLD_MIN_US: Final = 0
HOLD_MAX_US: Final = 3_600_000_000

#: What a limit may be counted by, beside `args.NAME`.
PER: Final = ("agent", "team", "tenant", "run", "tool")
_ARGUMENT: Final = "args."


@dataclass(frozen=True, slots=True)
class LimitDraft:
    """One limit as its file has it. `max` is in calls, or with `sum` in millionths."""

    position: Position
    per: tuple[str, ...]
    max: int
    window_us: int
    sum: Node | None
    is_shared: bool


def run_matcher(node: Node, problems: Problems) -> RunMatcher | None:
    """`{trust, labels}`; in which direction a level counts is for the rule to say."""
    before = problems.error_count
    values = read_fields(node, "`run`", _RUN_FIELDS, problems)
    if problems.error_count > before:
        return None
    if not values:
        problems.error(node.position, "`run` says nothing", "give it trust or labels, or both")
        return None
    return RunMatcher(Effect.DENY, values.get("trust"), frozenset(values.get("labels", ())))


def approval_terms(node: Node, problems: Problems) -> ApprovalTerms | None:
    """`{approvers, quorum, expires, hold}`."""
    before = problems.error_count
    values = read_fields(node, "`approval`", _APPROVAL_FIELDS, problems)
    if problems.error_count > before:
        return None
    approvers = values.get("approvers", ())
    return ApprovalTerms(
        "",
        tuple(dict.fromkeys(approvers)),
        values.get("quorum", 1),
        values.get("expires"),
        values.get("hold"),
    )


def limit(node: Node, problems: Problems) -> LimitDraft | None:
    """`{per, max, window, sum, shared}`."""
    before = problems.error_count
    values = read_fields(node, "a limit", _LIMIT_FIELDS, problems)
    if problems.error_count > before:
        return None
    most = _most(values["max"], "sum" in values, problems)
    if values["window"] > WINDOW_MAX_US:
        problems.error(node.value["window"].position, "a window is 366d at most")
    if problems.error_count > before:
        return None
    return LimitDraft(
        node.position,
        tuple(dict.fromkeys(values.get("per", ("agent",)))),
        most,
        values["window"],
        values.get("sum"),
        values.get("shared", False),
    )


def _per(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is None or value in PER:
        return value
    if value.startswith(_ARGUMENT) and "." not in value[len(_ARGUMENT) :] and value != _ARGUMENT:
        return value
    problems.error(
        node.position,
        f'"{value}" is nothing to count by',
        did_you_mean(value, PER) or f"one of {', '.join(PER)}, args.NAME, or several",
    )
    return None


def _number(node: Node, problems: Problems) -> Node | None:
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node
    hint = "without quotes, in digits, e.g. 1000" if isinstance(node.value, str) else ""
    problems.error(node.position, f"must be a number, not {node.kind}", hint)
    return None


def _most(node: Node, is_sum: bool, problems: Problems) -> int:
    """The largest amount, in the unit amounts are kept in."""
    if not is_sum:
        if isinstance(node.value, int) and 1 <= node.value <= CALLS_MAX:
            return node.value
        problems.error(
            node.position,
            f"max is a whole number of calls, from 1 to {CALLS_MAX}",
            "to allow none at all, write a deny rule",
        )
        return 0
    scaled = Decimal(str(node.value)) * SUM_SCALE
    if not 0 < scaled <= SUM_MAX * SUM_SCALE or scaled != int(scaled):
        problems.error(
            node.position, f"max of a sum is more than 0, at most {SUM_MAX}, with six decimals"
        )
        return 0
    return int(scaled)


def _quorum(node: Node, problems: Problems) -> int | None:
    value = node.value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= QUORUM_MAX:
        return value
    problems.error(node.position, f"quorum is a whole number from 1 to {QUORUM_MAX}")
    return None


_RUN_FIELDS: Mapping[str, Any] = {
    "trust": Field(one_of(TrustLevel)),
    "labels": Field(list_of(name)),
}
_APPROVAL_FIELDS: Mapping[str, Any] = {
    "approvers": Field(list_of(name)),
    "quorum": Field(_quorum),
    "expires": Field(bounded_duration(EXPIRES_MAX_US, EXPIRES_MIN_US)),
    "hold": Field(bounded_duration(HOLD_MAX_US, HOLD_MIN_US)),
}
_LIMIT_FIELDS: Mapping[str, Any] = {
    "per": Field(list_of(_per, "leave the key out for: agent")),
    "max": Field(_number, is_required=True),
    "window": Field(duration_us, is_required=True),
    "sum": Field(condition_text),
    "shared": Field(boolean),
}
