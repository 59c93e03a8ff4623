"""What the twin's decisions ask beside their effect: approvals, obligations, charges of limits.

Knows: what section 2 of LANGUAGE.md says of these keys. Must not know: the product, which effect
a decision has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from twin_catalogue import as_list
from twin_functions import Fault
from twin_interpreter import INT_MAX, evaluate
from twin_values import is_number, length_us
from twin_world import Judged, Seen, scope_of


def approval(one: Judged) -> tuple[Any, ...]:
    terms = one.rule.get("approval", {})
    expires, hold = (length_us(terms[key]) if key in terms else None for key in ("expires", "hold"))
    return one.name, tuple(as_list(terms.get("approvers"))), terms.get("quorum", 1), expires, hold


def _headers(one: Judged) -> dict[str, str | None]:
    """The header names a rule wants something of, and the value it wants; None is removed."""
    wanted = one.rule.get("obligations", {}).get("headers", {})
    headers = {name.lower(): value for name, value in wanted.get("set", {}).items()}
    return headers | {name.lower(): None for name in as_list(wanted.get("remove"))}


def in_conflict(matched: Iterable[Judged]) -> list[str]:
    """The rules that want two values for one header."""
    rules = list(matched)
    return [
        one.name
        for one in rules
        for header, value in _headers(one).items()
        if any(_headers(other).get(header, value) != value for other in rules)
    ]


def united(matched: Iterable[Judged]) -> dict[str, Any]:
    """The obligations of all rules at once, the tightest wins; what is left open is not in it."""
    both: dict[str, Any] = {}
    for one in matched:
        wanted = one.rule.get("obligations", {})
        for side, names in wanted.get("redact", {}).items():
            both.setdefault(f"redact.{side}", set()).update(as_list(names))
        for name, value in _headers(one).items():
            both.setdefault("headers", {})[name] = value
        if "max_response" in wanted:
            size = size_of(wanted["max_response"])
            both["max_response"] = min(size, both.get("max_response", size))
        if "idempotency_key" in wanted:
            both["idempotency_key"] = True
        if "add_labels" in wanted:
            both.setdefault("add_labels", set()).update(as_list(wanted["add_labels"]))
    return both


def size_of(text: str) -> int:
    """`64KiB`, `1MiB` in bytes."""
    return int(text[:-3]) * {"KiB": 1024, "MiB": 1024**2}[text[-3:]]


def charges_of(seen: Seen, one: Judged) -> list[tuple[Any, ...]]:
    """(rule, number of the limit, bucket, amount, max, window, is a sum, is shared)."""
    charges = []
    for number, limit in enumerate(as_list(one.rule.get("limits"))):
        bucket = [seen.call.principal["tenant"]]
        bucket += [_counted_by(seen, per) for per in as_list(limit.get("per", "agent"))]
        amount, most = 1, limit["max"]
        if "sum" in limit:
            value = evaluate(limit["sum"].tree, scope_of(one.policy, seen))
            if not is_number(value) or not value >= 0:
                raise Fault("a sum of something that is no number")
            amount, most = millionths(value), millionths(most)
            if amount > INT_MAX:
                raise Fault("a sum beyond 64 bits")
        charges.append(
            (one.name, number, json.dumps(bucket), amount, most, length_us(limit["window"]),
             "sum" in limit, limit.get("shared", False))
        )  # fmt: skip
    return charges


def millionths(value: float) -> int:
    """Sums are kept in millionths, rounded up: a limit is never passed by rounding."""
    exact = Fraction(repr(value)) * 1_000_000
    return -(-exact.numerator // exact.denominator)


def _counted_by(seen: Seen, per: str) -> Any:
    principal, run = seen.call.principal, seen.run
    if per in ("agent", "team"):
        return [per, principal[per]]
    if per == "tool":
        return [per, seen.tool.name]
    if per == "run":
        return [per, principal["agent"], run["id"], run["started_us"]]
    if per == "tenant":
        return [per]
    value = seen.call.args.get(per.removeprefix("args."))
    if value is None:
        return [per]
    # A number and its text are one value: callers choose how they write it.
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return [per, value if isinstance(value, str) else json.dumps(value, sort_keys=True)]
