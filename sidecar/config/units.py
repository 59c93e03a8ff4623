"""Durations and sizes as users write them: the unit is always there.

Knows: the texts `250ms 30s 5m 24h 7d` and `64KiB 1MiB`, both ways. Raises ValueError with a
message fit for a user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: No one means more digits than these, and a longer run of them costs time to convert.
_DURATION = re.compile(r"(0|[1-9][0-9]{0,14})(ms|s|m|h|d)")
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,14})(B|KiB|MiB|GiB)")
_BYTES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}


def duration_s(value: object) -> float:
    """Seconds of a duration."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a duration: write a number and one unit, e.g. 250ms, 30s, 5m, 24h")
    return int(match[1]) * _MILLISECONDS[match[2]] / 1000


def duration_text(seconds: float) -> str:
    """A duration in the largest unit that divides it, e.g. `5m` for 300.0."""
    milliseconds = round(seconds * 1000)
    return _in_largest(milliseconds, _MILLISECONDS) if milliseconds else "0s"


def size_bytes(value: object) -> int:
    """Bytes of a size."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size: write a number and one unit, e.g. 512B, 64KiB, 1MiB, 1GiB")
    return int(match[1]) * _BYTES[match[2]]


def size_text(count: int) -> str:
    """A size in the largest unit that divides it, e.g. `64KiB` for 65536."""
    return _in_largest(count, _BYTES) if count else "0B"


def _in_largest(count: int, units: Mapping[str, int]) -> str:
    unit = next(unit for unit, length in units.items() if count % length == 0)
    return f"{count // units[unit]}{unit}"
