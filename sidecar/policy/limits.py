"""Limits of rules: which bucket a call counts in, how much, and what is said when it is over.

Knows: how a bucket is named (values of arguments only as digests), that a sum is a number of at
least 0, kept in millionths and rounded up. What cannot be counted is an error, and so a deny.
Must not know: where buckets are kept, what they hold.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.model import Decision, Effect, Mode
from sidecar.policy.admission import ConditionError
from sidecar.policy.facts import Facts
from sidecar.policy.sizes import size_of
from sidecar.policy.terms import SUM_SCALE, Charge

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition
    from sidecar.policy.index import PolicySet
    from sidecar.policy.rule import Rule

_INT64_MAX: Final = 2**63 - 1
_DIGEST_CHARACTERS: Final = 32
_SUM_CHARACTERS: Final = 16
_ABSENT: Final = "-"

#: Gives the number that the `sum` of a limit has for a call.
Evaluate = Callable[["Condition", Facts], int | float]


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """One limit of a rule. `key` tells it apart, and changes when what it counts does: not with
    `max`, so that an edit of that neither forgives nor forgets."""

    key: str
    per: tuple[str, ...]
    max: int
    window_us: int
    sum: Condition | None
    is_shared: bool

    @property
    def scale(self) -> int:
        """What one whole is in the units of `max`."""
        return 1 if self.sum is None else SUM_SCALE


def limit_key(rule_id: str, per: Iterable[str], total: object, window_us: int) -> str:
    """The name of a limit: of which rule, by what, what it counts (None: calls), and how long."""
    what = "calls"
    if total is not None:
        what = hashlib.sha256(str(total).encode()).hexdigest()[:_SUM_CHARACTERS]
    return f"{rule_id} {','.join(per)} {what} {window_us}"


class LimitFailed(Exception):
    """What a limit counts could not be told; the message is for operators."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def charges_of(rules: Iterable[Rule], facts: Facts, evaluate: Evaluate) -> tuple[Charge, ...]:
    """What the limits of these rules count of a call; raises LimitFailed."""
    charges: list[Charge] = []
    for rule in rules:
        for limit in rule.limits:
            try:
                amount = 1 if limit.sum is None else amount_of(evaluate(limit.sum, facts))
                key = bucket(limit.per, facts)
            except Exception as error:
                raise LimitFailed(rule, f"limits: {error}"[:500]) from error
            charges.append(
                Charge(
                    rule.rule_id, limit.key, key, amount, limit.max, limit.window_us,
                    limit.scale, limit.sum is not None, limit.is_shared, rule.reason,
                )
            )  # fmt: skip
    return tuple(charges)


def amount_of(value: int | float) -> int:
    """A number in millionths, rounded up; raises ConditionError if it is none of at least 0."""
    if not math.isfinite(value) or value < 0:
        raise ConditionError("the sum of a call must be a number of at least 0")
    # The float 0.1 is a little more than a tenth: what it is written as is what is meant.
    scaled = int((Decimal(repr(value)) * SUM_SCALE).to_integral_value(ROUND_CEILING))
    if scaled > _INT64_MAX:
        raise ConditionError("the sum of a call is too large to be counted")
    return scaled


def bucket(per: Iterable[str], facts: Facts) -> str:
    """The name of the bucket a call counts in, within its tenant; the tenant is part of it."""
    parts = [facts.principal.tenant]
    for name in per:
        read = _PER.get(name)
        parts.append(read(facts) if read is not None else _argument(name[len("args.") :], facts))
    return orjson.dumps(parts).decode()


def _run(facts: Facts) -> str:
    run = facts.run
    return f"{facts.principal.agent}:{run.run_id}:{run.started_us or facts.now_us}"


_PER: Mapping[str, Callable[[Facts], str]] = {
    "agent": lambda facts: facts.principal.agent,
    "team": lambda facts: facts.principal.team,
    "tenant": lambda facts: "",
    "run": _run,
    "tool": lambda facts: facts.call.tool.name,
}


def _argument(name: str, facts: Facts) -> str:
    """The digest of an argument's value. A number and its text are one value; all calls without
    the argument share a bucket."""
    value = facts.call.args.get(name)
    if value is None:
        return _ABSENT
    if not isinstance(value, str):
        size_of(value)  # raises for what is too large to be put in order
    return hashlib.sha256(_as_text(value)).hexdigest()[:_DIGEST_CHARACTERS]


def _as_text(value: Any) -> bytes:
    if type(value) is str:
        return value.encode("utf-8", "surrogatepass")
    if type(value) is float and value.is_integer():
        value = int(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def over_limit(
    policy_set: PolicySet, decision: Decision, charge: Charge, used: int, facts: Facts
) -> Decision:
    """The decision on a call that a limit keeps from going ahead; `used` is in the charge's
    units, of the window as it is now. Under `observe` it says so, and the call goes ahead."""
    shown = {
        "limit.used": _shown(used, charge.scale),
        "limit.max": _shown(charge.max, charge.scale),
    }
    hashes = {match.rule_id: match.rule_hash for match in decision.matches}
    return replace(
        decision,
        effect=Effect.DENY,
        code="rate_limited",
        reason=charge.reason.fill(facts, policy_set.secrets, shown),
        rule_id=charge.rule_id,
        rule_hash=hashes.get(charge.rule_id),
        would_be=None if decision.would_be is None else Effect.DENY,
        mode=Mode.OBSERVE if policy_set.default == "observe" else Mode.ENFORCE,
        charges=(),
        approvals=(),
        approver=None,
    )


def _shown(amount: int, scale: int) -> int | float:
    whole, rest = divmod(amount, scale)
    return whole if not rest else float(Decimal(amount) / scale)
