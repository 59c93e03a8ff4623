"""Counting in a bucket that a store keeps: a step from one text to the next. Pure.

Knows: sums over a window that slides, and rates (GCRA) as text. A sum is kept by slots, a 64th of
the window each, and an amount counts until the last moment of its slot is a window ago: so never
more than `max` lies in any window, and room comes back at most a 64th of a window late, never
early. A clock that runs backwards frees nothing: what is newer than now counts, and what comes
next stands beside it.
Must not know: where texts are kept, what is counted, the clock (the moment is an argument).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.policy.gcra import ask, pace
from sidecar.policy.terms import Charge

#: Parts of a window in which amounts are added up; what a bucket's text can grow to.
SLOTS: Final = 64


class Taken(NamedTuple):
    """There was room: the bucket's next text, and from when on it says nothing any more."""

    state: str
    until_us: int


class Over(NamedTuple):
    """There was none: what the bucket holds, in the charge's unit, and how long until there would
    be room; a window, if there never will be."""

    used: int
    wait_us: int


def take(charge: Charge, state: str, at_us: int) -> Taken | Over:
    """One call at a moment, onto what its bucket holds ("": nobody has used it).

    A text that cannot be read is a bucket without room, for a window.
    """
    try:
        counted = _take_sum if charge.is_sum else _take_call
        return counted(charge, state, at_us)
    except ValueError:
        return Over(charge.max, charge.window_us)


def _take_call(charge: Charge, state: str, at_us: int) -> Taken | Over:
    full_at_ns = int(state) if state else None
    answer = ask(full_at_ns, at_us * 1000, pace(charge.max, charge.window_us))
    if not answer.allowed:
        return Over(answer.used, -(-answer.wait_ns // 1000))
    return Taken(str(answer.full_at_ns), -(-answer.full_at_ns // 1000))


def _take_sum(charge: Charge, state: str, at_us: int) -> Taken | Over:
    slot_us = -(-charge.window_us // SLOTS)
    live = [
        (slot, amount)
        for slot, amount in _read(state)
        if (slot + 1) * slot_us > at_us - charge.window_us
    ]
    used = sum(amount for _, amount in live)
    if used + charge.amount > charge.max:
        return Over(used, _wait_us(charge, live, used, slot_us, at_us))
    slot = at_us // slot_us
    if live and live[-1][0] >= slot:
        last, amount = live[-1]
        live[-1] = (last, amount + charge.amount)
    else:
        live.append((slot, charge.amount))
    return Taken(_text(live), (live[-1][0] + 1) * slot_us + charge.window_us)


def _wait_us(
    charge: Charge, live: list[tuple[int, int]], used: int, slot_us: int, at_us: int
) -> int:
    """How long until enough of what is there has left the window."""
    for slot, amount in live:
        used -= amount
        if used + charge.amount <= charge.max:
            return (slot + 1) * slot_us + charge.window_us - at_us
    return charge.window_us


def _read(state: str) -> list[tuple[int, int]]:
    """Slots and amounts, oldest first; ValueError for any other text."""
    found: list[tuple[int, int]] = []
    for piece in state.split():
        slot, _, amount = piece.partition(":")
        pair = (int(slot), int(amount))
        if pair[1] < 0 or (found and pair[0] <= found[-1][0]):
            raise ValueError("slots do not count up")
        found.append(pair)
    return found


def _text(live: list[tuple[int, int]]) -> str:
    return " ".join(f"{slot}:{amount}" for slot, amount in live)
