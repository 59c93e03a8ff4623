"""Durations and sizes in policy files: `250ms 30s 5m 24h 7d`, `64KiB 1MiB`; the unit is required.

Must not know: which key has which.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.policy.fields import Parse, Problems
from sidecar.yaml_reader import Node

_DURATION = re.compile(r"(0|[1-9][0-9]{0,11})(ms|s|m|h|d)")
_MICROSECONDS = {
    "ms": 1000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,11})(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


#: The shortest duration that can be written, beside none at all.
SHORTEST_US: Final = 1000


def duration_us(node: Node, problems: Problems) -> int | None:
    """Microseconds of a duration, more than none."""
    found = _any_duration_us(node, problems)
    if found == 0:
        problems.error(node.position, "must be longer than 0")
        return None
    return found


def bounded_duration(most_us: int, least_us: int = SHORTEST_US) -> Parse:
    """Reads a duration within bounds, which are both taken; 0 can be one of them."""

    def read(node: Node, problems: Problems) -> int | None:
        found = _any_duration_us(node, problems)
        if found is None or least_us <= found <= most_us:
            return found
        bounds = f"{duration_text(least_us)} to {duration_text(most_us)}"
        problems.error(node.position, f"must be {bounds}")
        return None

    return read


def _any_duration_us(node: Node, problems: Problems) -> int | None:
    found = _DURATION.fullmatch(node.value) if isinstance(node.value, str) else None
    if found is None:
        problems.error(node.position, "must be a duration", "a number and one unit, e.g. 30s, 5m")
        return None
    return int(found[1]) * _MICROSECONDS[found[2]]


def size_bytes(node: Node, problems: Problems) -> int | None:
    """Bytes of a size."""
    found = _SIZE.fullmatch(node.value) if isinstance(node.value, str) else None
    if found is None:
        problems.error(node.position, "must be a size", "a number and one unit, e.g. 64KiB, 1MiB")
        return None
    return int(found[1]) * _BYTES[found[2]]


def duration_text(microseconds: int) -> str:
    """A duration in the largest unit that divides it, e.g. `5m`; `0s` for none."""
    if not microseconds:
        return "0s"
    for unit, length in reversed(_MICROSECONDS.items()):
        if microseconds % length == 0:
            return f"{microseconds // length}{unit}"
    return f"{microseconds}us"


def size_text(size: int) -> str:
    """A size in the largest unit that divides it, e.g. `64KiB`."""
    for unit, length in reversed(_BYTES.items()):
        if size and size % length == 0:
            return f"{size // length}{unit}"
    return f"{size}B"
