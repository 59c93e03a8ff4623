"""The twin's values: what JSON gives, moments and lengths of time, ranks; when two are equal.

Knows: what LANGUAGE.md says of equality across types. Must not know: the product, trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

RISKS = ("low", "medium", "high", "critical")
TRUSTS = ("unknown", "malicious_suspected", "untrusted_external", "semi_trusted_customer",
          "trusted_internal_unsigned", "trusted_internal_signed")  # fmt: skip
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


@dataclass(frozen=True, order=True)
class Instant:
    """A moment: microseconds since 1970, UTC."""

    at_us: int


@dataclass(frozen=True, order=True)
class Span:
    """A length of time."""

    us: int


def length_us(text: str) -> int:
    """`250ms`, `30s`, `5m`, `24h`, `7d` in microseconds."""
    if text.endswith("ms"):
        return int(text[:-2]) * 1000
    return int(text[:-1]) * _UNITS_US[text[-1]]


def local_time(at_us: int, zone: str) -> datetime:
    """The wall clock of a zone."""
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(one: Any, other: Any) -> bool:
    """Equality across types is false, not a fault; numbers are compared by value."""
    if is_number(one) and is_number(other):
        return bool(one == other)
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)
