"""How long a pattern of `matches` may take: to prepare, at each evaluation, and per byte of text.

Knows: how RE2 works. It prepares a program of instructions, then reads the text byte by byte, and
works out what may come next (a set of places of the pattern) when it first meets it. A pattern
with few such sets is fast for any text. One with very many, `(a|b)*a(a|b){20}`, is not: RE2 then
works out a set for nearly every byte, which is linear in the text still, but a hundred times
slower. So the sets are counted here, up to a bound. The numbers are measured.
Must not know: CEL, what is too long.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidecar.policy.pattern_syntax import (
    ANY,
    OTHERS,
    Begin,
    Choice,
    End,
    One,
    Part,
    Repeat,
    Sequence,
    parse_pattern,
)

_START_NS: Final = 10_000
_INSTRUCTION_NS: Final = 500
_BYTE_NS: Final = 2.5
#: To work out one set of places, and so much more for each place in it.
_SET_NS: Final = 500
_PLACE_NS: Final = 12
#: What lies beyond ASCII is several bytes, of kinds of their own, and RE2 spells it out.
_KINDS_BEYOND_ASCII: Final = 8
_BEYOND_ASCII_NS: Final = 400
#: Per byte where sets are not told apart, and so much more for each place a set may have.
_ENDLESS_NS: Final = 1000
_ENDLESS_PLACE_NS: Final = 10
#: Sets are counted until all together would take so long to work out.
_SETS_NS_MAX: Final = 15_000_000
#: What takes longer to prepare is refused, whatever else it costs; it is done at each evaluation.
PREPARE_NS_MAX: Final = 2_000_000
_INSTRUCTIONS_MAX: Final = PREPARE_NS_MAX // _INSTRUCTION_NS


@dataclass(frozen=True, slots=True)
class PatternCost:
    """`prepare_ns` at each evaluation; `sets_ns` for all sets there are, `set_ns` for the largest;
    `byte_ns` beside that."""

    prepare_ns: float
    sets_ns: float
    set_ns: float
    byte_ns: float

    def of(self, text_bytes: float) -> float:
        """An upper bound for one text, once the pattern is prepared."""
        return min(self.sets_ns, text_bytes * self.set_ns) + text_bytes * self.byte_ns

    def of_many(self, text_bytes: float) -> float:
        """The same for any number of texts that come to so many bytes."""
        return text_bytes * (self.set_ns + self.byte_ns)


@functools.lru_cache(maxsize=4096)
def pattern_cost(pattern: str) -> PatternCost:
    """The cost of a pattern that RE2 takes; of one that is not understood here, without end."""
    try:
        tree = parse_pattern(pattern)
        places = _Places()
        whole = places.add(tree)
    except (ValueError, _TooLarge):
        return PatternCost(math.inf, 0, 0, 0)
    prepare_ns = _START_NS + _INSTRUCTION_NS * places.instructions
    sets = _sets_of(tree, places, whole)
    if sets.is_counted:
        return PatternCost(prepare_ns, sets.total_ns, sets.set_ns, _BYTE_NS)
    byte_ns = _ENDLESS_NS + _ENDLESS_PLACE_NS * _widest(tree)
    return PatternCost(prepare_ns, 0, 0, byte_ns)


class _TooLarge(Exception):
    """Of so many instructions that nothing else matters."""


def _sets_of(tree: Part, places: _Places, whole: _Stretch) -> _Sets:
    is_anchored = _begins(tree)
    # RE2 reads such a text from its end, where it knows that the match must be.
    is_reversed = _ends(tree) and not is_anchored
    return _Sets(places, whole, is_reversed=is_reversed, is_anchored=is_anchored or is_reversed)


def _widest(tree: Part) -> int:
    """At most so many places in a set. A set of several alternatives is theirs together."""
    widest = 0
    for part in tree.parts if isinstance(tree, Choice) else (tree,):
        places = _Places()
        sets = _sets_of(part, places, places.add(part))
        widest += sets.widest if sets.is_counted else places.instructions
    return widest


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the pattern by its places, as bits: where it may begin and end, and whether it may
    take nothing."""

    first: int
    last: int
    is_optional: bool


_EMPTY: Final = _Stretch(0, 0, True)


class _Places:
    """The places of a pattern, its repeats written out, with what may follow each."""

    def __init__(self) -> None:
        self.masks: list[int] = []
        self.follows: list[int] = []
        self.ends = 0
        self.instructions = 0
        self.instructions_beyond_ascii = 0
        self.left_out = 0

    def add(self, part: Part) -> _Stretch:
        """Adds a part of the pattern; raises _TooLarge."""
        match part:
            case One():
                return self._place(part.mask, part.instructions)
            case End():  # takes no character: a place that nothing gets past
                stretch = self._place(0, 1)
                self.ends |= stretch.first
                return stretch
            case Begin():
                return _EMPTY
            case Sequence():
                found = _EMPTY
                for one in part.parts:
                    found = self._joined(found, self.add(one))
                return found
            case Choice():
                return _either([self.add(one) for one in part.parts])
            case Repeat():
                return self._repeat(part)

    def _place(self, mask: int, instructions: int) -> _Stretch:
        self.instructions += instructions
        if self.instructions > _INSTRUCTIONS_MAX:
            raise _TooLarge
        if mask & OTHERS:
            self.instructions_beyond_ascii += instructions
        bit = 1 << len(self.masks)
        self.masks.append(mask)
        self.follows.append(0)
        return _Stretch(bit, bit, False)

    def _joined(self, one: _Stretch, other: _Stretch) -> _Stretch:
        for place in _bits(one.last):
            self.follows[place] |= other.first
        return _Stretch(
            one.first | (other.first if one.is_optional else 0),
            other.last | (one.last if other.is_optional else 0),
            one.is_optional and other.is_optional,
        )

    def _repeat(self, part: Repeat) -> _Stretch:
        """`x{2,4}` is `xx(x(x)?)?`, as RE2 has it; without end, the last one loops."""
        found, times = _EMPTY, part.least
        if part.most is None:
            inner = self.add(part.part)
            for place in _bits(inner.last):
                self.follows[place] |= inner.first
            found = _Stretch(inner.first, inner.last, inner.is_optional or times == 0)
            times -= 1
        else:
            before = self.instructions
            for _ in range(part.most - times):
                inner = self._joined(self.add(part.part), found)
                found = _Stretch(inner.first, inner.last, True)
            self.instructions += self.instructions - before  # what may be left out costs twice
            self.left_out += part.most - times
        for _ in range(times):
            found = self._joined(self.add(part.part), found)
        return found


class _Sets:
    """The sets of places that texts can lead to, and the time to work them all out."""

    def __init__(
        self, places: _Places, whole: _Stretch, *, is_reversed: bool, is_anchored: bool
    ) -> None:
        self.total_ns = _BEYOND_ASCII_NS * places.instructions_beyond_ascii
        self.widest = 0
        follows, start = places.follows, whole.first
        # Whether there is a match is all that is asked: the first one ends the reading.
        final = whole.last & ~places.ends
        if is_reversed:
            follows = _turned(places.follows)
            start = final | functools.reduce(
                lambda found, place: found | follows[place], _bits(places.ends), 0
            )
            final = whole.first
        self._follows = follows
        self._again = 0 if is_anchored else start
        self._final = final
        self._known: dict[int, int] = {}
        self._explore(start, _cells(places.masks))
        # RE2 tells sets apart by the order, too, in which repeats that may end left them.
        self.total_ns += places.left_out * self.set_ns

    @property
    def is_counted(self) -> bool:
        """Whether these are all there are."""
        return self.total_ns <= _SETS_NS_MAX

    @property
    def set_ns(self) -> int:
        """The time for the largest of them."""
        return _SET_NS + _PLACE_NS * self.widest

    def _explore(self, start: int, cells: Iterable[int]) -> None:
        cells = list(cells)
        kinds = len(cells) + _KINDS_BEYOND_ASCII
        seen, pending = {start}, [start]
        while pending and self.is_counted:
            places = pending.pop()
            width = places.bit_count()
            self.widest = max(self.widest, width)
            self.total_ns += (_SET_NS + _PLACE_NS * width) * kinds
            for cell in cells:
                taken = places & cell
                if taken & self._final:
                    continue
                following = self._known.get(taken)
                if following is None:
                    following = self._again
                    for place in _bits(taken):
                        following |= self._follows[place]
                    self._known[taken] = following
                if following not in seen:
                    seen.add(following)
                    pending.append(following)


def _cells(masks: Iterable[int]) -> list[int]:
    """For each kind of character that the pattern tells apart, the places that take it."""
    masks = list(masks)
    kinds = [ANY]
    for mask in set(masks):
        kinds = [part for kind in kinds for part in (kind & mask, kind & ~mask) if part]
    return [sum(1 << place for place, mask in enumerate(masks) if mask & kind) for kind in kinds]


def _bits(number: int) -> Iterable[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _turned(follows: list[int]) -> list[int]:
    turned = [0] * len(follows)
    for place, following in enumerate(follows):
        for other in _bits(following):
            turned[other] |= 1 << place
    return turned


def _either(parts: Iterable[_Stretch]) -> _Stretch:
    first = last = 0
    is_optional = False
    for one in parts:
        first |= one.first
        last |= one.last
        is_optional |= one.is_optional
    return _Stretch(first, last, is_optional)


def _begins(part: Part) -> bool:
    """Whether every match must begin where the text does."""
    match part:
        case Begin():
            return True
        case Sequence():
            return bool(part.parts) and _begins(part.parts[0])
        case Choice():
            return all(_begins(one) for one in part.parts)
        case _:
            return False


def _ends(part: Part) -> bool:
    """Whether every match must end where the text does, as far as RE2 looks for that."""
    match part:
        case End():
            return True
        case Sequence():
            return bool(part.parts) and _ends(part.parts[-1])
        case _:
            return False
