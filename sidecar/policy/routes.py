"""Route templates: `PUT /repos/{owner}/pulls/{number}/merge`, and the one that fits a request.

Knows: a literal segment is more specific than `{name}`, that than `{name...}` (the rest, one
segment or more, at the end). The most specific route wins; two that are equally specific are a
mistake, found when the table is built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_TEMPLATE = re.compile(r"([A-Z][A-Z-]{0,19}) (/\S*)")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]{0,63})(\.\.\.)?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed template. A segment is its literal text, or ("name",) for a parameter."""

    method: str
    segments: tuple[str | tuple[str], ...]
    rest: str | None
    text: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in order."""
        names = [segment[0] for segment in self.segments if isinstance(segment, tuple)]
        return (*names, self.rest) if self.rest else tuple(names)


def parse_route(text: object) -> Route:
    """Reads `METHOD /template`; raises ValueError."""
    match = _TEMPLATE.fullmatch(text) if isinstance(text, str) else None
    if match is None or not isinstance(text, str):
        raise ValueError(f"{text!r} is not a route: write METHOD /path/{{name}}")
    segments: list[str | tuple[str]] = []
    rest: str | None = None
    parts = [part for part in match[2].strip("/").split("/") if part] if match[2] != "/" else []
    if "//" in match[2]:
        raise ValueError(f"{text!r} has an empty segment")
    for position, part in enumerate(parts):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None:
            if "{" in part or "}" in part:
                raise ValueError(f"{part!r}: a parameter is a whole segment, {{name}}")
            segments.append(part)
        elif parameter[2]:
            if position != len(parts) - 1:
                raise ValueError(f"{part!r} takes the rest, so it must come last")
            rest = parameter[1]
        else:
            segments.append((parameter[1],))
    route = Route(match[1], tuple(segments), rest, text)
    if len(set(route.parameters)) != len(route.parameters):
        raise ValueError(f"{text!r} names a parameter twice")
    return route


@dataclass(slots=True)
class _Node(Generic[T]):
    literal: dict[str, _Node[T]] = field(default_factory=dict)
    parameter: _Node[T] | None = None
    end: tuple[Route, T] | None = None
    rest: tuple[Route, T] | None = None


class RouteTable(Generic[T]):
    """Routes of one upstream, by method."""

    def __init__(self) -> None:
        self._methods: dict[str, _Node[T]] = {}

    def add(self, route: Route, value: T) -> T | None:
        """Adds a route; gives the value of one that is equally specific instead, if there is."""
        node = self._methods.setdefault(route.method, _Node())
        for segment in route.segments:
            if isinstance(segment, str):
                node = node.literal.setdefault(segment, _Node())
            else:
                node.parameter = node.parameter or _Node()
                node = node.parameter
        taken = node.rest if route.rest else node.end
        if taken is not None:
            return taken[1]
        if route.rest:
            node.rest = (route, value)
        else:
            node.end = (route, value)
        return None

    def match(self, method: str, segments: Sequence[str]) -> tuple[T, dict[str, str]] | None:
        """The value of the most specific route, and its parameters' values."""
        start = self._methods.get(method)
        found = _find(start, segments, 0) if start is not None else None
        if found is None:
            return None
        route, value = found
        values = {
            segment[0]: segments[position]
            for position, segment in enumerate(route.segments)
            if isinstance(segment, tuple)
        }
        if route.rest:
            values[route.rest] = "/".join(segments[len(route.segments) :])
        return value, values


def _find(node: _Node[T], segments: Sequence[str], at: int) -> tuple[Route, T] | None:
    if at == len(segments):
        return node.end
    below = node.literal.get(segments[at])
    found = _find(below, segments, at + 1) if below is not None else None
    if found is None and node.parameter is not None:
        found = _find(node.parameter, segments, at + 1)
    return found if found is not None else node.rest
