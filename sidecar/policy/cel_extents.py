"""How large a value may be while an expression is evaluated, and how long that has taken.

Knows: extents of real values, of several together, of one or the other.
Must not know: what a function does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

#: The texts that an expression splits or replaces at, one for each of `Extent.cuts`.
Needles = tuple[str, ...]


class Extent(NamedTuple):
    """At most so many values (a text is one, a list one more than what it holds), bytes of text,
    members of the list or the object itself, and in its texts so many of each needle."""

    values: float
    bytes: float
    items: float
    cuts: tuple[float, ...] = ()


class Bound(NamedTuple):
    """At most so long, and what comes of it."""

    ns: float
    extent: Extent


class Around(NamedTuple):
    """Where a term stands: what the expression splits or replaces at, whether it is in a loop, and
    whether there is a meter, which is told of each text that a function is called on."""

    needles: Needles
    is_repeated: bool = False
    is_metered: bool = False


class Uncountable(Exception):
    """An expression whose cost cannot be told; the message says why, at an offset."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.offset, self.message, self.hint = offset, message, hint


def extent_of(value: Any, needles: Needles = ()) -> Extent:
    """The extent of JSON-like data."""
    values = total = 0
    texts: list[str] = []
    pending = [value]
    while pending:
        one = pending.pop()
        values += 1
        if type(one) is str:
            texts.append(one)
            total += len(one) if one.isascii() else len(one.encode("utf-8", "surrogatepass"))
        elif type(one) is dict:
            pending.extend(one)
            pending.extend(one.values())
        elif type(one) is list or type(one) is tuple:
            pending.extend(one)
    items = len(value) if type(value) in (dict, list, tuple) else 0
    cuts = tuple(sum(text.count(needle) for text in texts) for needle in needles)
    return Extent(values, total, items, cuts)


def rounded_up(extent: Extent) -> Extent:
    """As large or somewhat larger, so that equal ones are found again."""
    cuts = tuple(_next_step(count) for count in extent.cuts)
    return Extent(
        _next_step(extent.values), _next_step(extent.bytes), _next_step(extent.items), cuts
    )


def _next_step(number: float) -> float:
    """The next of 1, 1½, 2, 3, 4, 6, 8, 12, 16 …"""
    power = 1 << max(int(number) - 1, 0).bit_length()
    return power * 3 / 4 if number <= power * 3 / 4 else power


_SCALAR = Extent(1, 0, 0)


def scalar(needles: Needles) -> Extent:
    """A number, true, false or null."""
    return Extent(1, 0, 0, (0,) * len(needles)) if needles else _SCALAR


def uniform(values: int, total: int, cuts: int, needles: Needles) -> Extent:
    """So large, and no larger, with equally many of each needle."""
    return Extent(values, total, values - 1, (cuts,) * len(needles))


def united(extents: Iterable[Extent], needles: Needles) -> Extent:
    """All of them together, as the members of one list."""
    values = total = items = 0.0
    cuts = [0.0] * len(needles)
    for one in extents:
        values += one.values
        total += one.bytes
        items += 1
        for number, count in enumerate(one.cuts):
            cuts[number] += count
    return Extent(values, total, items, tuple(cuts))


def larger(one: Extent, other: Extent) -> Extent:
    """One of the two, whichever is larger in what."""
    return Extent(
        max(one.values, other.values),
        max(one.bytes, other.bytes),
        max(one.items, other.items),
        tuple(map(max, one.cuts, other.cuts)) if one.cuts else (),
    )


def times(extent: Extent, factor: float) -> Extent:
    """So many of them."""
    return Extent(
        extent.values * factor,
        extent.bytes * factor,
        extent.items * factor,
        tuple(one * factor for one in extent.cuts),
    )


def cut_anew(extent: Extent, needles: Needles) -> Extent:
    """Of a text that was made of others, and may hold needles that they did not."""
    return extent._replace(cuts=(extent.bytes,) * len(needles))


def joined(extent: Extent, joints: float, needles: Needles) -> Extent:
    """Texts put together: at each joint a longer needle may come to be."""
    if not any(len(needle) > 1 for needle in needles):
        return extent
    return extent._replace(cuts=tuple(count + joints for count in extent.cuts))
