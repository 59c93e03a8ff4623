"""Strict YAML: text becomes nodes that remember where they stand; every problem at once.

Knows: the YAML 1.2 core scalars and what LANGUAGE refuses (duplicate keys, empty values, tags,
anchors, merge keys, NUL, several documents, depth > 32, more than 1 MiB). Works on PyYAML's
nodes, never on its dictionaries, which keep the last of two equal keys in silence.
Must not know: what any key means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from sidecar.problems import Position, Problem

BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
#: Python refuses to convert more than 4300 digits; nobody means more than these.
NUMBER_CHARACTERS_MAX = 100

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "false": False}
_OLD_TAGS = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Node:
    """One value with its place.

    `value` is str, int, float, bool, a list of Node or a dict of str to Node. `key_position`
    is where its key stands, if it is a member of a mapping. `is_plain` tells an unquoted scalar.
    """

    value: Any
    position: Position
    key_position: Position | None = None
    is_plain: bool = False

    @property
    def is_mapping(self) -> bool:
        """Whether `value` is a dict."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether `value` is a list."""
        return isinstance(self.value, list)

    @property
    def kind(self) -> str:
        """What it is, in words for messages."""
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        if isinstance(self.value, bool):
            return "true or false"
        return "a number" if isinstance(self.value, int | float) else "text"

    def plain(self) -> Any:
        """The value as ordinary Python data, positions gone."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read_yaml(source: str, data: bytes) -> tuple[Node | None, list[Problem]]:
    """Reads exactly one document; gives the node (None if unusable) and all problems."""
    documents, problems = read_documents(source, data)
    if len(documents) > 1:
        problems.append(Problem(documents[1].position, "a second document in one file"))
    if not documents and not problems:
        problems.append(Problem(Position(source, 1, 1), "the file is empty"))
    return (documents[0] if documents and not problems else None), problems


def read_documents(source: str, data: bytes) -> tuple[list[Node], list[Problem]]:
    """Reads every document of a file; for the one caller (policy tests) that takes several."""
    if len(data) > BYTES_MAX:
        return [], [Problem(Position(source, 1, 1), f"larger than {BYTES_MAX} bytes")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return [], [Problem(Position(source, line, 1), "not UTF-8")]
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return [], [Problem(Position(source, line, 1), "NUL is not allowed")]
    reader = _Reader(source)
    documents: list[Node] = []
    try:
        reader.refuse_by_event(text)
        if not reader.problems:
            documents = [
                reader.node(node, 1)
                for node in yaml.compose_all(text, Loader=_LOADER)
                if node is not None
            ]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reader.problem(mark, error.problem or "not YAML", _hint_for(error))
    except yaml.YAMLError as error:  # a control character: the reader's error has no mark
        reader.problems.append(Problem(Position(source, 1, 1), str(error).split("\n", 1)[0]))
    return documents, reader.problems


def _hint_for(error: yaml.MarkedYAMLError) -> str:
    if "alias" in f"{error.problem} {error.context}":
        return 'a bare `*` must be quoted: "*"'
    return "quote texts that hold `: `, ` #` or begin with a special character"


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def position(self, mark: Any) -> Position:
        if mark is None:
            return Position(self.source, 1, 1)
        return Position(self.source, mark.line + 1, mark.column + 1)

    def problem(self, mark: Any, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.position(mark), message, hint))

    def refuse_by_event(self, text: str) -> None:
        """Anchors, aliases, tags and depth are seen here, before any node is built."""
        depth = 0
        for event in _events(text):
            if isinstance(event, yaml.AliasEvent):
                self.problem(
                    event.start_mark,
                    "YAML aliases are not allowed",
                    'a text that begins with `*` must be quoted: "*"',
                )
            elif isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent):
                self._refuse_decorations(event)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEPTH_MAX:
                    self.problem(event.start_mark, f"nested deeper than {DEPTH_MAX}")
                    return
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    def _refuse_decorations(self, event: Any) -> None:
        if event.anchor is not None:
            self.problem(
                event.start_mark,
                "YAML anchors are not allowed",
                "quote a text that begins with `&`",
            )
        if event.tag is not None:
            tag = event.tag.removeprefix(_OLD_TAGS)
            self.problem(
                event.start_mark,
                f"YAML tag {tag if tag.startswith('!') else '!!' + tag} is not allowed",
                'a CEL text that begins with "!" must stand under `when: |` or in quotes',
            )

    def node(self, node: Any, depth: int, key: Any = None) -> Node:
        position = self.position(node.start_mark)
        key_position = self.position(key.start_mark) if key is not None else None
        if isinstance(node, yaml.ScalarNode):
            is_plain = not node.style
            if "\0" in node.value:  # by an escape; in the clear it was refused before
                self.problem(node.start_mark, "NUL is not allowed")
            value = self.scalar(node) if is_plain else node.value
            return Node(value, position, key_position, is_plain)
        if isinstance(node, yaml.SequenceNode):
            return Node(
                [self.node(child, depth + 1) for child in node.value], position, key_position
            )
        return Node(self.mapping(node, depth), position, key_position)

    def mapping(self, node: Any, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key.start_mark, "a key must be text")
                continue
            if "\0" in key.value:
                self.problem(key.start_mark, "NUL is not allowed")
                continue
            if key.value == "<<" and not key.style:
                self.problem(key.start_mark, "YAML merge keys are not allowed")
                continue
            if key.value in members:
                first = members[key.value].key_position
                self.problem(
                    key.start_mark, f'key "{key.value}" is here twice', f"first at {first}"
                )
                continue
            members[key.value] = self.node(child, depth + 1, key)
        return members

    def scalar(self, node: Any) -> Any:
        """A plain scalar by the YAML 1.2 core schema; `010` is neither text nor a number."""
        text = node.value
        if text in _NULLS:
            self.problem(node.start_mark, "a value is missing", 'write "" for an empty text')
            return ""
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if len(text) > NUMBER_CHARACTERS_MAX and (
            _INTEGER.fullmatch(text) or _LEADING_ZERO.fullmatch(text)
        ):
            self.problem(node.start_mark, "a number with too many digits", "quote it")
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        if _LEADING_ZERO.fullmatch(text):
            self.problem(
                node.start_mark, f"{text} is ambiguous: a number with a leading zero", "quote it"
            )
            return text
        if _FLOAT.fullmatch(text):
            if math.isinf(float(text)):
                self.problem(node.start_mark, "a number beyond what can be held", "quote it")
            return float(text)
        return text


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, Loader=_LOADER))
