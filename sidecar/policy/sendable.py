"""Whether arguments that somebody describes could come with a call: as strict JSON would take them.

Knows: that a call with anything else is refused before a rule is asked, so that what rules would
make of it is told to nobody. What a described value cannot hold (NUL, NaN, endless nesting) is
refused where it is read.
Must not know: bytes, who describes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from sidecar.errors import Refused
from sidecar.policy.exact_numbers import INTEGER_MAX
from sidecar.policy.marks import with_few_marks


def require_sendable(args: Mapping[str, Any]) -> None:
    """Raises Refused, in the words of whoever reads calls, for what none can hold."""
    pending: list[Any] = [args]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            _require_names_apart(value)
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, int) and abs(value) > INTEGER_MAX:
            raise Refused("invalid_json", f"A JSON integer is beyond ±{INTEGER_MAX}")


def _require_names_apart(members: Mapping[str, Any]) -> None:
    if all(map(str.isascii, members)):
        return
    if any(with_few_marks(name) is not name for name in members):
        raise Refused("invalid_json", "A name of a JSON object has too many marks in a row")
    if len({unicodedata.normalize("NFC", name) for name in members}) != len(members):
        raise Refused("invalid_json", "Two names of a JSON object differ only in Unicode form")
