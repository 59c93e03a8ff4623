"""Which call of a run brought which label, worked out of what is on record. Pure.

Knows: that a run gathers labels as calls go ahead, in the order of the chain, so that of calls that
were under way together the first on the chain brought what several would; and that rules saw of
the run what was there when they were asked, which may be less. What is not on record is said to be
unknown, never guessed.
Must not know: stores, when a run ends, what is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

_NONE: Final[frozenset[str]] = frozenset()


class CallOnRecord(NamedTuple):
    """Whether a call went ahead, and what is kept of what its rules saw; None where nothing is."""

    went_ahead: bool
    facts: Mapping[str, Any] | None


class Labelled(NamedTuple):
    """The labels of a run around one of its calls.

    `before` were gathered by then; `added` came with this call, None where that is not on record.
    Of those before, `appeared` since the last call and none of the calls is on record as having
    brought them; `unseen` were gathered by others while this call was under way: its rules were
    asked before.
    """

    before: frozenset[str]
    added: frozenset[str] | None
    appeared: frozenset[str]
    unseen: frozenset[str]


def labelled(
    calls: Sequence[CallOnRecord], started_us: int | None, *, is_whole: bool
) -> list[Labelled]:
    """Of calls of one run, in the order of the chain; `is_whole` says that the run began with the
    first of them, at `started_us`. Of a run whose beginning is not there, the first call's rules
    say what was gathered before."""
    found: list[Labelled] = []
    known = _NONE
    for call in calls:
        met = _met(call.facts, started_us)
        appeared = (met or _NONE) - known
        before = known | appeared
        brought = _brought(call)
        added = None if brought is None else brought - before
        unseen = _NONE if met is None else before - met
        if not found and not is_whole:
            appeared = _NONE
        found.append(Labelled(before, added, appeared, unseen))
        known = before | (added or _NONE)
    return found


def _met(facts: Mapping[str, Any] | None, started_us: int | None) -> frozenset[str] | None:
    """What rules saw of the run; None if that is not on record, or if it was another run that they
    saw, which ended while the call was under way."""
    if facts is None or "run" not in facts:
        return None
    run = facts["run"]
    if run is None:
        return _NONE
    return frozenset(run["labels"]) if run["started_us"] == started_us else None


def _brought(call: CallOnRecord) -> frozenset[str] | None:
    """What a call adds where it is not there yet: its tool's labels, and those of obligations."""
    if not call.went_ahead:
        return _NONE
    if call.facts is None:
        return None
    if call.facts.get("code") == "protocol":  # carries the protocol itself: no step of a run
        return _NONE
    return frozenset(call.facts.get("labels", ())) | frozenset(call.facts.get("adds", ()))
