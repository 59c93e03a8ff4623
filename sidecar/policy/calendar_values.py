"""Parts of a time, and the numbers that they can be.

Knows: that months and days of the month and of the year count from 0 in CEL, days of the week from
0 for Sunday (cel-spec, "Timestamps"), so that `now.getMonth() == 12` is true at no time.
Must not know: the CEL library, files, rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LIST, Term

_EQUALITIES: Final = frozenset({"_==_", "_!=_", "@in"})
#: First and last of each, and what to know of it.
_OF_TIMES: Final[Mapping[str, tuple[int, int, str]]] = {
    "getMonth": (0, 11, "months count from 0: January is 0, December 11"),
    "getDayOfMonth": (0, 30, "getDayOfMonth() counts from 0, getDate() from 1"),
    "getDate": (1, 31, "getDate() counts from 1, getDayOfMonth() from 0"),
    "getDayOfWeek": (0, 6, "Sunday is 0, Saturday 6; or write `during: sat-sun 00:00-24:00 ZONE`"),
    "getDayOfYear": (0, 365, "days of the year count from 0"),
}
#: Durations have these too, and of any size.
_OF_THE_CLOCK: Final[Mapping[str, tuple[int, int, str]]] = {
    "getHours": (0, 23, "hours are 0 to 23, UTC unless a zone is given"),
    "getMinutes": (0, 59, "minutes are 0 to 59"),
    "getSeconds": (0, 59, "seconds are 0 to 59"),
}
_CLOCKS: Final = frozenset({"now", "run.started"})


def never(call: Term) -> Iterator[tuple[int, str, str]]:
    """Numbers that a part of a time never is, in an equality or a list: place, message, hint."""
    if call.name not in _EQUALITIES or len(call.parts) != 2:
        return
    for part, held in (call.parts, call.parts[::-1]):
        known = _known(part)
        for value in (held.parts if held.kind == LIST else (held,)) if known is not None else ():
            if value.kind == CONSTANT and type(value.value) is int:
                low, high, hint = known or (0, 0, "")
                if not low <= value.value <= high:
                    yield call.offset, f"{part.name}() is never {value.value}", hint


def _known(part: Term) -> tuple[int, int, str] | None:
    if part.kind != CALL or not part.parts:
        return None
    target = part.parts[0]
    if part.name in _OF_THE_CLOCK:
        is_clock = target.kind == IDENTIFIER and target.name in _CLOCKS
        return _OF_THE_CLOCK[part.name] if is_clock else None
    return _OF_TIMES.get(part.name)
