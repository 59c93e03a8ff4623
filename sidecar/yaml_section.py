"""Reads one mapping of a user file: known keys, kinds of value, bounds; all problems kept.

Knows: how a wrong key or value is reported. Must not know: which files and sections exist.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from sidecar.problems import Position, Problem
from sidecar.yaml_reader import Node

T = TypeVar("T")
_NOTHING: Final[Mapping[str, str]] = {}


def suggest(word: str, known: Iterable[str]) -> str:
    """A did-you-mean hint, or "" if nothing is near."""
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f'did you mean "{near[0]}"?' if near else ""


class Section:
    """A mapping under `path`; an absent or malformed one reads as empty."""

    def __init__(
        self,
        node: Node | None,
        path: str,
        problems: list[Problem],
        noun: str = "",
        form: str = "",
    ) -> None:
        self.path = path
        self.noun = noun
        self.problems = problems
        self.node = node
        self.members: dict[str, Node] = {}
        if node is None:
            return
        if node.is_mapping:
            self.members = node.value
        else:
            self.report(node, f"{path or 'the file'} must be a mapping, not {node.kind}", form)

    @property
    def position(self) -> Position:
        """Where the mapping stands."""
        return self.node.position if self.node else Position("sidecar.yaml", 1, 1)

    def key(self, name: str) -> str:
        """The dotted name of a member."""
        return f"{self.path}.{name}" if self.path else name

    def report(
        self, node: Node | None, message: str, hint: str = "", *, at_key: bool = False
    ) -> None:
        """Notes a problem at a node (or its key, or the section)."""
        position = self.position
        if node is not None:
            position = (node.key_position or node.position) if at_key else node.position
        self.problems.append(Problem(position, message, hint))

    def warn(self, node: Node | None, message: str, hint: str = "") -> None:
        """Notes at a node (or the section) what can be used, and is hardly meant."""
        position = self.position if node is None else node.position
        self.problems.append(Problem(position, message, hint, is_warning=True))

    def allow(self, known: Iterable[str], meant: Mapping[str, str] = _NOTHING) -> None:
        """Refuses every other key. `meant` has hints for some, where letters lead astray."""
        for name, node in self.members.items():
            if name not in known:
                of = f"of {self.noun or self.path or self.position.source}"
                hint = meant.get(name) or suggest(name, known)
                self.report(node, f'"{name}" is not a key {of}', hint, at_key=True)

    def sub(self, name: str, form: str = "") -> Section:
        """The mapping below a key; `form` is what is said where it is none."""
        return Section(self.members.get(name), self.key(name), self.problems, form=form)

    def read(self, name: str, convert: Callable[[Any], T], default: T) -> T:
        """A scalar, converted; a ValueError of `convert` becomes a problem."""
        node = self.members.get(name)
        if node is None:
            return default
        if node.is_mapping or node.is_list:
            self.report(node, f"{self.key(name)} must not be {node.kind}")
            return default
        try:
            return convert(node.value)
        except ValueError as error:
            self.report(node, f"{self.key(name)}: {error}")
            return default

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words."""

        def check(value: Any) -> str:
            if value not in choices:
                hint = suggest(str(value), choices)
                raise ValueError(
                    f"{value!r} is not one of {', '.join(choices)}. {hint}".rstrip(". ")
                )
            return str(value)

        return self.read(name, check, default)

    def boolean(self, name: str, default: bool) -> bool:
        """true or false."""

        def check(value: Any) -> bool:
            if not isinstance(value, bool):
                raise ValueError("must be true or false")
            return value

        return self.read(name, check, default)

    def text(self, name: str, default: str) -> str:
        """Some text."""

        def check(value: Any) -> str:
            if not isinstance(value, str):
                raise ValueError("must be text; quote it")
            return value

        return self.read(name, check, default)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """An integer within bounds."""

        def check(value: Any) -> int:
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"must be an integer from {low} to {high}")
            return value

        return self.read(name, check, default)

    def measure(self, name: str, convert: Callable[[object], T], default: T, low: T, high: T) -> T:
        """A duration or size within bounds."""

        def check(value: Any) -> T:
            converted = convert(value)
            if not low <= converted <= high:  # type: ignore[operator]
                raise ValueError(f"must be from {low} to {high} (in base units)")
            return converted

        return self.read(name, check, default)

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts; one value will do."""
        node = self.members.get(name)
        if node is None:
            return default
        items = node.value if node.is_list else [node]
        found = []
        for item in items:
            if isinstance(item.value, str) and item.value:
                found.append(item.value)
            else:
                self.report(item, f"{self.key(name)}: text is expected here, not {item.kind}")
        return tuple(found)
