"""A small field table over YAML nodes: what keys a mapping may have, and how each is read.

Knows: unknown and missing keys, did-you-mean hints, the forms many files share (names,
texts, one value where a list fits). Every problem is collected, nothing is raised.
Must not know: what a rule or a tool is.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.policy.other_words import how_written, other_word
from sidecar.problems import Position, Problem
from sidecar.yaml_reader import Node

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_HINT = "a name is a-z, 0-9 and -, at most 63 characters, beginning with a letter or digit"

#: What people write for a boolean, and YAML 1.1 took for one.
_MEANT = {
    **dict.fromkeys(("true", "yes", "on", "y"), "true"),
    **dict.fromkeys(("false", "no", "off", "n"), "false"),
}


class Problems:
    """What is wrong with the files read so far."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.error_count = 0

    def error(self, position: Position, message: str, hint: str = "") -> None:
        """Notes something that stops the load."""
        self.found.append(Problem(position, message, hint))
        self.error_count += 1

    def warning(self, position: Position, message: str, hint: str = "") -> None:
        """Notes something the operator should look at."""
        self.found.append(Problem(position, message, hint, is_warning=True))

    def note(
        self, position: Position, message: str, hint: str = "", *, is_warning: bool = False
    ) -> None:
        """An error, or a warning where the same thing is harmless."""
        (self.warning if is_warning else self.error)(position, message, hint)

    def take(self, problems: Iterable[Problem]) -> None:
        """Adds what another reader found."""
        for problem in problems:
            self.found.append(problem)
            self.error_count += not problem.is_warning


#: Reads one value; gives None after noting why it could not.
Parse = Callable[[Node, Problems], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a mapping."""

    parse: Parse
    is_required: bool = False


def read_fields(
    node: Node, what: str, fields: Mapping[str, Field], problems: Problems
) -> dict[str, Any]:
    """The mapping's values by key, unusable ones left out. `what` is e.g. "a rule"."""
    values: dict[str, Any] = {}
    if not node.is_mapping:
        problems.error(node.position, f"{what} must be a mapping, not {node.kind}")
        return values
    for key, member in node.value.items():
        field = fields.get(key)
        if field is None:
            problems.error(
                member.key_position or member.position,
                f'"{key}" is not a key of {what}',
                other_word(what, key) or did_you_mean(key, list(fields)),
            )
        else:
            value = field.parse(member, problems)
            if value is not None:
                values[key] = value
    for key, field in fields.items():
        if field.is_required and key not in node.value:
            problems.error(node.position, f'{what} needs "{key}"', how_written(what, key))
    return values


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """A hint that names the nearest option, or "" if none is near."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


def as_node(node: Node, problems: Problems) -> Node:
    """The node itself, for what is read later."""
    return node


def text(node: Node, problems: Problems) -> str | None:
    """A text that is not empty."""
    if isinstance(node.value, str) and node.value.strip():
        return node.value
    is_blank = isinstance(node.value, str) and not node.value.strip()
    kind = "empty" if is_blank else node.kind
    is_scalar = not (node.is_mapping or node.is_list or kind == "empty")
    problems.error(node.position, f"must be text, not {kind}", "quote it" if is_scalar else "")
    return None


def name(node: Node, problems: Problems) -> str | None:
    """A name: of a policy, a rule, a label."""
    value = node.plain()
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    problems.error(node.position, f"{_shown(node)} is not a name", NAME_HINT)
    return None


def boolean(node: Node, problems: Problems) -> bool | None:
    """`true` or `false`."""
    if isinstance(node.value, bool):
        return node.value
    meant = _MEANT.get(node.value.lower(), "") if isinstance(node.value, str) else ""
    hint = f"write {meant}, without quotes" if meant else ""
    problems.error(node.position, f"must be true or false, not {_shown(node)}", hint)
    return None


def one_of(levels: type[enum.Enum]) -> Parse:
    """A member of an enumeration, by the name files give it."""
    options = {member.name.lower(): member for member in levels}

    def parse(node: Node, problems: Problems) -> enum.Enum | None:
        value = node.value if isinstance(node.value, str) else None
        if value in options:
            return options[value]
        problems.error(
            node.position,
            f"{_shown(node)} is none of {', '.join(options)}",
            did_you_mean(value or "", options),
        )
        return None

    return parse


def list_of(
    parse: Parse, instead: str = "leave the key out for: any", *, may_be_empty: bool = False
) -> Parse:
    """A list, or one value where one is enough; gives a tuple, at least one long if an empty one
    says nothing (`may_be_empty` otherwise). `instead` says what to do where it is meant."""

    def parse_list(node: Node, problems: Problems) -> tuple[Any, ...] | None:
        members = node.value if node.is_list else [node]
        if not members and not may_be_empty:
            problems.error(node.position, "must not be empty", instead)
            return None
        before = problems.error_count
        values = tuple(parse(member, problems) for member in members)
        return values if problems.error_count == before else None

    return parse_list


def _shown(node: Node) -> str:
    if isinstance(node.value, str):
        return f'"{node.value}"' if len(node.value) <= 80 else "this long text"
    if isinstance(node.value, bool):
        return str(node.value).lower()
    return str(node.value) if isinstance(node.value, int | float) else node.kind
