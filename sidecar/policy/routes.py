"""Route templates: `PUT /repos/{owner}/pulls/{number}/merge`, and the one that fits a request.

Knows: the template's grammar; that a literal segment is more specific than one with affixes
(`{id}.json`), that than `{name}`, that than `{name...}` (the rest, one segment or more, at the
end); the index by method and segment. The most specific route wins, compared from the left; two
that are equally specific are a mistake, found when the table is built.
Must not know: percent-encoding (segments come decoded), tools, YAML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

METHODS: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE",
     # WebDAV and what rests on it (RFC 4918, 3253, 3744, 4791, 5323); caches know PURGE.
     "ACL", "COPY", "LOCK", "MKCALENDAR", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "PURGE",
     "REPORT", "SEARCH", "UNLOCK"}
)  # fmt: skip
SEGMENTS_MAX: Final = 64

_TEMPLATE = re.compile(r"([A-Z][A-Z-]{0,19}) (/\S*)")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]{0,127}?)(\.\.\.)?\}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A literal (`prefix` only), or a named value between a prefix and a suffix."""

    prefix: str
    name: str = ""
    suffix: str = ""

    @property
    def affixes_length(self) -> int:
        """How much of the segment is fixed; more is more specific."""
        return len(self.prefix) + len(self.suffix)

    def value_of(self, text: str) -> str | None:
        """The value in `text`, at least one character; None if the affixes do not fit."""
        if len(text) <= self.affixes_length:
            return None
        if text.startswith(self.prefix) and text.endswith(self.suffix):
            return text[len(self.prefix) : len(text) - len(self.suffix)]
        return None

    def folded(self) -> Segment:
        """The same where letter case is passed over."""
        return Segment(self.prefix.casefold(), self.name, self.suffix.casefold())

    def may_meet(self, other: Segment) -> bool:
        """Whether a text could fit both this and another affixed segment."""
        shorter, longer = sorted((self.prefix, other.prefix), key=len)
        tail, longer_tail = sorted((self.suffix, other.suffix), key=len)
        return longer.startswith(shorter) and longer_tail.endswith(tail)


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed template; `rest` names what a final `{name...}` takes."""

    method: str
    segments: tuple[Segment, ...]
    rest: str | None
    text: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in order."""
        names = tuple(segment.name for segment in self.segments if segment.name)
        return (*names, self.rest) if self.rest else names


def parse_route(text: object) -> Route:
    """Reads `METHOD /template`; raises ValueError. A final slash makes no difference."""
    match = _TEMPLATE.fullmatch(text) if isinstance(text, str) else None
    if match is None or not isinstance(text, str):
        raise ValueError(f"{text!r} is not a route: write METHOD /path/{{name}}")
    if match[1] not in METHODS:
        raise ValueError(f"{match[1]} is not a method that is served")
    parts = [part for part in match[2].strip("/").split("/") if part]
    if "//" in match[2]:
        raise ValueError(f"{text!r} has an empty segment")
    if len(parts) > SEGMENTS_MAX:
        raise ValueError(f"{text[:80]!r} has more than {SEGMENTS_MAX} segments")
    rest = _rest(parts[-1]) if parts else None
    segments = tuple(_segment(part) for part in (parts[:-1] if rest else parts))
    route = Route(match[1], segments, rest, text)
    if len(set(route.parameters)) != len(route.parameters):
        raise ValueError(f"{text!r} names a parameter twice")
    return route


def _rest(part: str) -> str | None:
    parameter = _PARAMETER.fullmatch(part)
    return parameter[1] if parameter is not None and parameter[2] else None


def _segment(part: str) -> Segment:
    parameter = _PARAMETER.search(part)
    if parameter is None:
        if any(character in '{}?#%\\"' for character in part) or part in (".", ".."):
            raise ValueError(f"{part!r} cannot stand in a template")
        return Segment(part)
    prefix, suffix = part[: parameter.start()], part[parameter.end() :]
    if "{" in prefix + suffix or "}" in prefix + suffix:
        raise ValueError(f"{part!r}: one parameter a segment, {{name}}")
    if parameter[2]:
        raise ValueError(f"{part!r} takes the rest, so it must be the whole last segment")
    return Segment(prefix, parameter[1], suffix)


@dataclass(slots=True)
class _Place(Generic[T]):
    """A place in the tree: what may follow, from most to least specific."""

    literal: dict[str, _Place[T]] = field(default_factory=dict)
    #: The same places by what their texts are where letter case is passed over.
    folded: dict[str, list[_Place[T]]] = field(default_factory=dict)
    affixed: list[tuple[Segment, _Place[T]]] = field(default_factory=list)
    parameter: _Place[T] | None = None
    end: tuple[Route, T] | None = None
    rest: tuple[Route, T] | None = None


class RouteTable(Generic[T]):
    """Routes of one upstream, by method."""

    def __init__(self) -> None:
        self._methods: dict[str, _Place[T]] = {}
        #: How what is literal is spelt, by what it is where case is passed over, whatever the
        #: method and the place; and what is spelt in one way only.
        self._spellings: dict[str, set[str]] = {}
        self._one_spelling: set[str] = set()
        #: Whether a segment has a fixed part beside its value, and one in capitals.
        self._has_affixes = self._has_cased_affixes = False

    def add(self, route: Route, value: T) -> T | None:
        """Adds a route; gives the value of one that is equally specific instead, if there is."""
        place = self._methods.setdefault(route.method, _Place())
        for segment in route.segments:
            if not segment.name:
                self._spell(segment.prefix)
            elif segment.affixes_length:
                self._has_affixes = True
                self._has_cased_affixes |= segment.folded() != segment
            for other, below in place.affixed if segment.affixes_length and segment.name else ():
                is_same = (other.prefix, other.suffix) == (segment.prefix, segment.suffix)
                is_level = other.affixes_length == segment.affixes_length
                if is_level and not is_same and other.may_meet(segment):
                    return _any_value(below)
            place = _follow(place, segment)
        taken = place.rest if route.rest else place.end
        if taken is not None:
            return taken[1]
        if route.rest:
            place.rest = (route, value)
        else:
            place.end = (route, value)
        return None

    def _spell(self, literal: str) -> None:
        spellings = self._spellings.setdefault(literal.casefold(), set())
        spellings.add(literal)
        if len(spellings) == 1:
            self._one_spelling.add(literal)
        else:
            self._one_spelling -= spellings

    def match(self, method: str, segments: Sequence[str]) -> tuple[T, dict[str, str]] | None:
        """The value of the most specific route, and its parameters' values."""
        start = self._methods.get(method)
        taken: list[str] = []
        found = _find(start, segments, 0, taken) if start is not None else None
        if found is None:
            return None
        route, value = found
        return value, dict(zip(route.parameters, taken, strict=True))

    def is_in_other_case(self, method: str, segments: Sequence[str]) -> bool:
        """Whether a server that passes over letter case (Express, ASP.NET) would take another route
        than `match` does. Routes that differ in case alone are told apart by their author."""
        for text in segments:
            if text not in self._one_spelling:
                folded = text.casefold()
                if folded in self._spellings or (self._has_affixes and folded != text):
                    break
                if self._has_cased_affixes:
                    break
        else:
            return False
        start = self._methods.get(method)
        if start is None:
            return False
        near = _near(start, segments, 0)
        return near is not None and near is not _find(start, segments, 0, [])


def _follow(place: _Place[T], segment: Segment) -> _Place[T]:
    if not segment.name:
        below = place.literal.get(segment.prefix)
        if below is None:
            below = place.literal[segment.prefix] = _Place()
            place.folded.setdefault(segment.prefix.casefold(), []).append(below)
        return below
    if not segment.affixes_length:
        place.parameter = place.parameter or _Place()
        return place.parameter
    for other, below in place.affixed:
        if (other.prefix, other.suffix) == (segment.prefix, segment.suffix):
            return below
    below = _Place()
    place.affixed.append((segment, below))
    place.affixed.sort(key=lambda one: -one[0].affixes_length)
    return below


def _any_value(place: _Place[T]) -> T:
    while True:
        found = place.end or place.rest
        if found is not None:
            return found[1]
        below = [*place.literal.values(), *(one for _, one in place.affixed)]
        place = place.parameter or below[0]


def _find(
    place: _Place[T], segments: Sequence[str], at: int, taken: list[str]
) -> tuple[Route, T] | None:
    """Depth first, most specific first; `taken` holds the values on the way down."""
    if at == len(segments):
        return place.end
    text = segments[at]
    literal = place.literal.get(text)
    found = _find(literal, segments, at + 1, taken) if literal is not None else None
    for segment, below in place.affixed if found is None else ():
        value = segment.value_of(text)
        if found is None and value is not None:
            found = _take(below, segments, at, taken, value)
    if found is None and place.parameter is not None:
        found = _take(place.parameter, segments, at, taken, text)
    if found is None and place.rest is not None:
        taken.append("/".join(segments[at:]))
        found = place.rest
    return found


def _near(place: _Place[T], segments: Sequence[str], at: int) -> tuple[Route, T] | None:
    """As `_find`, with what is literal in any letter case; what is spelt so goes first."""
    if at == len(segments):
        return place.end
    text = segments[at]
    exact, folded = place.literal.get(text), text.casefold()
    ways = [exact] if exact is not None else []
    ways += [below for below in place.folded.get(folded, ()) if below is not exact]
    fits = [(one.value_of(text) is None, one, below) for one, below in place.affixed]
    ways += [below for differs, _, below in fits if not differs]
    ways += [
        below for differs, one, below in fits
        if differs and one.folded().value_of(folded) is not None
    ]  # fmt: skip
    ways += [place.parameter] if place.parameter is not None else []
    for below in ways:
        found = _near(below, segments, at + 1)
        if found is not None:
            return found
    return place.rest


def _take(
    place: _Place[T], segments: Sequence[str], at: int, taken: list[str], value: str
) -> tuple[Route, T] | None:
    taken.append(value)
    found = _find(place, segments, at + 1, taken)
    if found is None:
        taken.pop()
    return found
