"""Reasons: a rule's text with values of the call, safe to show to agents and approvers.

Knows: `{args.amount}` and the other paths of the language; values are cut, controls escaped,
secrets masked, missing ones said to be absent. Filling in never fails and never runs code.
Must not know: rules, effects, YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from sidecar.policy.facts import FACTS, RUN, Facts
from sidecar.policy.fields import did_you_mean
from sidecar.policy.printable import printable
from sidecar.policy.secret_names import MASK, masked_path, masked_query

P = TypeVar("P")

VALUE_LENGTH_MAX = 80
ABSENT = "(absent)"

#: Names that only the reason of a limit can read, and only where it refuses.
LIMIT_FACTS = frozenset({"limit.used", "limit.max"})

_NO_LIMIT: Mapping[str, int | float] = MappingProxyType({})

_PLACE = re.compile(r"\{([^{}]*)\}")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_OPEN_FACTS = ("args", "agent.claims", "http.headers")
_LEVELS = ("trust.", "risk.")
_DEPTH_MAX = 8
_MEMBERS_MAX = 32
#: Each takes a character at least, so more are never seen.
_VALUES_MAX = VALUE_LENGTH_MAX + 1


class BadReason(ValueError):
    """A text that cannot be filled in; `problems` are messages with hints how to mend them."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(message for message, _ in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a reason: the fact it begins with, and the members below it."""

    fact: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """A parsed text: literal parts and places, in order."""

    parts: tuple[str | Place, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether it reads the same for every call."""
        return all(isinstance(part, str) for part in self.parts)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments it names."""
        return tuple(
            part.members[0]
            for part in self.parts
            if isinstance(part, Place) and part.fact == "args" and part.members
        )

    @property
    def run_names(self) -> tuple[str, ...]:
        """The names of the run it shows."""
        places = (part.fact for part in self.parts if isinstance(part, Place))
        return tuple(fact for fact in places if fact.startswith(RUN))

    @property
    def shows_limit(self) -> bool:
        """Whether it tells what a limit has used or allows."""
        return any(isinstance(part, Place) and part.fact in LIMIT_FACTS for part in self.parts)

    def fill(
        self, facts: Facts, secrets: Container[str], limit: Mapping[str, int | float] = _NO_LIMIT
    ) -> str:
        """The text for one call. `secrets` are names whose values are masked, `limit` what a limit
        that the call would break has used and allows."""
        return "".join(
            part if isinstance(part, str) else _value(part, facts, secrets, limit)
            for part in self.parts
        )


def parse_reason(text: str) -> Reason:
    """Reads a text with `{path}` in it; raises BadReason, which names every problem once."""
    return Reason(parsed_parts(text, _place))


def parsed_parts(text: str, place: Callable[[str], P]) -> tuple[str | P, ...]:
    """The literal parts of a text and what `place` makes of the paths between them, none empty.

    Raises BadReason for all that it, or `place`, has against the text."""
    parts: list[str | P] = []
    problems: list[tuple[str, str]] = []
    at = 0
    for found in _PLACE.finditer(text):
        parts.append(text[at : found.start()])
        try:
            parts.append(place(found[1]))
        except BadReason as error:
            problems += error.problems
        at = found.end()
    parts.append(text[at:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        problems.append(("a brace stands alone", "{path} names a value; braces have no other use"))
    if problems:
        raise BadReason(*dict.fromkeys(problems))
    return tuple(part for part in parts if part != "")


def _place(path: str) -> Place | str:
    """What stands in the place of a path; of a level its name, the same for every call."""
    if not _PATH.fullmatch(path):
        raise BadReason((f"{{{path}}} is not a path", "write e.g. {args.amount} or {agent.name}"))
    if path in LIMIT_FACTS:
        return Place(path)
    if path in FACTS and path.startswith(_LEVELS):
        return path.partition(".")[2]
    if path in FACTS and path not in _OPEN_FACTS:
        return Place(path)
    for fact in _OPEN_FACTS:
        if path == fact or path.startswith(f"{fact}."):
            members = path[len(fact) + 1 :]
            return Place(fact, tuple(members.split(".")) if members else ())
    raise BadReason((f'there is no "{path}"', did_you_mean(path, [*FACTS, *LIMIT_FACTS])))


def _value(
    place: Place, facts: Facts, secrets: Container[str], limit: Mapping[str, int | float]
) -> str:
    if any(member in secrets for member in place.members):
        return MASK
    if place.fact in LIMIT_FACTS:
        found = limit.get(place.fact)
        return ABSENT if found is None else str(found)
    if place.fact == "http.query":
        return _shown(masked_query(facts.call.http.query, secrets), secrets)
    if place.fact == "http.path":
        return _shown(masked_path(facts.call.http.path, facts.call.in_path, secrets), secrets)
    fact = FACTS[place.fact]
    value = fact.read(facts)
    if fact.ranks is not None:
        return fact.ranks(value).label
    for member in place.members:
        if not isinstance(value, dict) or member not in value:
            return ABSENT
        value = value[member]
    return _shown(value, secrets)


def _shown(value: Any, secrets: Container[str]) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, list) and all(isinstance(one, str) for one in value[:_MEMBERS_MAX]):
        text = ", ".join(value[:_MEMBERS_MAX])
    elif isinstance(value, dict | list | bool | int | float) or value is None:
        masked = _masked(value, secrets, 0, iter(range(_VALUES_MAX)))
        text = json.dumps(masked, ensure_ascii=False, separators=(", ", ": "), default=str)
    else:
        text = str(value)
    is_long = len(text) > VALUE_LENGTH_MAX
    cut = text[:VALUE_LENGTH_MAX]
    return printable(cut) + ("…" if is_long else "")


def _masked(value: Any, secrets: Container[str], depth: int, left: Iterator[int]) -> Any:
    if depth > _DEPTH_MAX or next(left, None) is None:
        return "…"
    if isinstance(value, dict):
        first = list(value.items())[:_MEMBERS_MAX]
        return {
            key: MASK if str(key) in secrets else _masked(one, secrets, depth + 1, left)
            for key, one in first
        }
    if isinstance(value, list):
        return [_masked(one, secrets, depth + 1, left) for one in value[:_MEMBERS_MAX]]
    return value[: VALUE_LENGTH_MAX + 1] if isinstance(value, str) else value
