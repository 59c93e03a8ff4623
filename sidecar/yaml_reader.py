"""Strict YAML: text becomes nodes that remember where they stand; every problem at once.

Knows: the YAML 1.2 core scalars and what LANGUAGE refuses (duplicate keys, empty values, tags,
anchors, merge keys, NUL, several documents, depth > 32, more than 1 MiB). Works on PyYAML's
events: its dictionaries keep the last of two equal keys in silence, and its nodes grow without
bound by aliases. What is refused does not end the reading, so that the readers of the nodes can
name their problems too; only a syntax error, size and depth do.
Must not know: what any key means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml

from sidecar.policy.exact_numbers import is_exact
from sidecar.problems import Position, Problem

BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
#: Of one file. A mebibyte of aliases would be half a million problems.
PROBLEMS_MAX = 100
#: Python refuses to convert more than 4300 digits; nobody means more than these.
NUMBER_CHARACTERS_MAX = 100

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
#: The rest of the core schema's numbers.
_OTHER_NOTATION = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NUMBERS_BEGIN_WITH = frozenset("-+.0123456789")
#: `id:a`, which is a text to YAML.
_GLUED = re.compile(r"\s*(?:- +)?([A-Za-z_]+):[^\s:/]")
#: `key: {a}` or `key: "a"`, where more of the line is left.
_MORE_AFTER_A_VALUE = re.compile(r"""[^#]*:\s+(\{.*\}|\[.*\]|"[^"]*"|'[^']*')\s+""")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LOOKED_AT_MAX = 300
_EMPTY = 'write "" for an empty text'
_BOOLEANS = {"true": True, "false": False}
_OLD_TAGS = "tag:yaml.org,2002:"


class Node(NamedTuple):
    """One value with its place.

    `value` is str, int, float, bool, a list of Node or a dict of str to Node. `key_position`
    is where its key stands, if it is a member of a mapping. `is_plain` tells an unquoted scalar.
    `is_refused` tells that a problem was noted here which leaves the value without a meaning.
    """

    value: Any
    position: Position
    key_position: Position | None = None
    is_plain: bool = False
    is_refused: bool = False

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

    def refused_places(self) -> set[Position]:
        """Where values without a meaning stand, here and below. What else is said of such a place
        only follows from what was said first."""
        if self.is_refused:
            return {self.position}
        below = self.value.values() if self.is_mapping else self.value if self.is_list else ()
        return {place for node in below for place in node.refused_places()}


def read_yaml(source: str, data: bytes) -> tuple[Node | None, list[Problem]]:
    """Reads exactly one document; gives the node (None if anything is wrong) and all problems."""
    node, problems = salvage_yaml(source, data)
    return (None if problems else node), problems


def salvage_yaml(source: str, data: bytes) -> tuple[Node | None, list[Problem]]:
    """Like `read_yaml`, but gives what could be read of a document with problems: not to be used,
    only to find the other problems in it. None if nothing could be read."""
    documents, problems = read_documents(source, data)
    if len(documents) > 1:
        hint = "give it a file of its own"
        problems.append(Problem(documents[1].position, "a second document in one file", hint))
    if not documents and not problems:
        problems.append(Problem(Position(source, 1, 1), "the file is empty"))
    return (documents[0] if documents else None), problems


def read_documents(source: str, data: bytes) -> tuple[list[Node], list[Problem]]:
    """Reads every document of a file, as far as can be told what they say; none of a file that is
    no YAML, too large or too deep. To be used only if there is no problem."""
    if len(data) > BYTES_MAX:
        return [], [Problem(Position(source, 1, 1), f"larger than {BYTES_MAX} bytes")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _behind(source, data[: error.start].decode("utf-8"))
        return [], [Problem(place, "not UTF-8", "save the file as UTF-8")]
    if "\0" in text:
        return [], [Problem(_behind(source, text.partition("\0")[0]), "NUL is not allowed")]
    reader = _Reader(source, text)
    try:
        return reader.documents(), reader.problems
    except (_TooDeep, _TooMany):
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "quoted scalar" in (error.context or "") and "end of stream" in (error.problem or ""):
            reader.problem(error.context_mark, "a quote that is never closed")
            return [], reader.problems
        at = mark.index if mark is not None else 0
        column = min(mark.column, _LOOKED_AT_MAX) if mark is not None else 0
        line_at = max(0, at - column)
        above = text[:line_at].rstrip("\n")[-_LOOKED_AT_MAX:].rpartition("\n")[2]
        hint = _hint_for(error, text[line_at:at], text[at : at + 1], above)
        begin = error.context_mark
        if begin is not None and _NO_BREAK_SPACE in text[begin.index : at]:
            hint = f"line {begin.line + 1} holds a no-break space: write a plain one"
        reader.problem(mark, error.problem or "not YAML", hint)
    except yaml.reader.ReaderError as error:  # a control character; there is no mark
        place = _behind(source, data[: error.position].decode("utf-8", "replace"))
        message = f"the character U+{error.character:04X} is not allowed"
        reader.problems.append(Problem(place, message))
    return [], reader.problems


def _behind(source: str, before: str) -> Position:
    """Where the file goes on after `before`, its beginning."""
    begin = before.rfind("\n") + 1
    return Position(source, before.count("\n") + 1, len(before) - begin + 1)


class _TooDeep(Exception):
    """The problem was noted."""


class _TooMany(Exception):
    """Enough problems were noted."""


#: It looks like a space and is none to YAML.
_NO_BREAK_SPACE: Final = "\u00a0"


def _hint_for(error: yaml.MarkedYAMLError, before: str, found: str, above: str) -> str:
    """What is most likely meant, by the character at which the reader gave up, what stands before
    it in its line, and the line above."""
    if "alias" in f"{error.problem} {error.context}":
        return 'a bare `*` must be quoted: "*"'
    problem = error.problem or ""
    if found == "\t":
        return "indent with spaces: YAML takes no tabs"
    if "escape character" in problem:
        return "within double quotes \\ begins an escape; within single quotes it is itself"
    if "expected ',' or" in problem and error.context_mark is not None:
        opened = error.context_mark
        return f"opened at line {opened.line + 1}, column {opened.column + 1}, and never closed"
    if problem.endswith("'-' indicator") and not before.strip():
        return "the keys of one mapping all begin in the same column, and this line in another"
    if problem == "mapping values are not allowed in this context":
        glued = _GLUED.match(above) or _GLUED.match(before)
        if glued:
            return f"a blank stands behind the colon of a key: `{glued[1]}: `"
    if problem == "could not find expected ':'":
        return "a key ends in a colon and a blank, `key: value`, and a text over lines is quoted"
    if _MORE_AFTER_A_VALUE.fullmatch(before):
        return "a value ends at its closing quote or brace: put the whole text in quotes"
    return "quote texts that hold `: `, ` #` or begin with a special character"


def _events(text: str) -> Iterator[Any]:
    """What `yaml.parse` gives, which asks before each event whether there is one."""
    loader = _LOADER(text)
    try:
        while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
            yield event
    finally:
        loader.dispose()


class _Reader:
    """Makes nodes of events, in the order of the file, and notes what is refused."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._is_without_colon = False
        self._events = _events(text)

    def position(self, mark: Any) -> Position:
        if mark is None:
            return Position(self.source, 1, 1)
        # What `Position(…)` does, without the step in between: files have thousands.
        return tuple.__new__(Position, (self.source, mark.line + 1, mark.column + 1))

    def problem(self, mark: Any, message: str, hint: str = "") -> None:
        """Notes a problem; raises _TooMany when it is time to stop."""
        self.problems.append(Problem(self.position(mark), message, hint))
        if len(self.problems) >= PROBLEMS_MAX:
            more = "so many problems that the rest of the file was not read"
            self.problems.append(Problem(self.position(mark), more))
            raise _TooMany

    def documents(self) -> list[Node]:
        """Every document; raises _TooDeep and yaml.YAMLError."""
        return [
            self._node(next(self._events), 1)
            for event in self._events
            if isinstance(event, yaml.DocumentStartEvent)
        ]

    def _node(self, event: Any, depth: int, key_position: Position | None = None) -> Node:
        position = self.position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            # Never followed: a few lines of aliases can stand for more nodes than fit in memory.
            hint = 'a text that begins with `*` must be quoted: "*"'
            self.problem(event.start_mark, "YAML aliases are not allowed", hint)
            return Node("", position, key_position, is_refused=True)
        if event.anchor is not None or event.tag is not None:
            self._refuse_decorations(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar_node(event, position, key_position)
        if depth > DEPTH_MAX:
            self.problem(event.start_mark, f"nested deeper than {DEPTH_MAX}")
            raise _TooDeep
        if isinstance(event, yaml.SequenceStartEvent):
            self._is_without_colon = False
            value: Any = [self._node(child, depth + 1) for child in self._children()]
        else:
            value = self._mapping(depth)
        return Node(value, position, key_position)

    def _children(self) -> Iterator[Any]:
        """The events that begin the members of the collection that was just opened."""
        events = self._events
        while not isinstance(event := next(events), yaml.CollectionEndEvent):
            yield event

    def _refuse_decorations(self, event: Any) -> None:
        if event.anchor is not None:
            self.problem(
                event.start_mark,
                "YAML anchors are not allowed",
                "write it out at each place; a text that begins with `&` stands in quotes",
            )
        if event.tag is not None:
            tag = event.tag.removeprefix(_OLD_TAGS)
            is_own = tag.startswith("!")
            self.problem(
                event.start_mark,
                f"YAML tag {tag if is_own else '!!' + tag} is not allowed",
                'a CEL text that begins with "!" must stand under `when: |` or in quotes'
                if is_own
                else "leave it out; a text that looks like something else stands in quotes",
            )

    def _scalar_node(self, event: Any, position: Position, key_position: Position | None) -> Node:
        is_plain = not event.style
        if "\0" in event.value:  # by an escape; in the clear it was refused before
            self.problem(event.start_mark, "NUL is not allowed")
            return Node("", position, key_position, is_plain, is_refused=True)
        before = len(self.problems)
        is_tagged = event.tag is not None
        value = self.scalar(event) if is_plain and not is_tagged else event.value
        # `!has(args.x)` is a tag to YAML: the text that is left of it says something else.
        is_cut = is_tagged and not event.tag.startswith(_OLD_TAGS)
        is_refused = is_cut or len(self.problems) > before
        return Node(value, position, key_position, is_plain, is_refused)

    def _mapping(self, depth: int) -> dict[str, Node]:
        """Of equal keys the first counts; what cannot be a member is read, then left out."""
        members: dict[str, Node] = {}
        for event in self._children():
            name = self._key(event, members, depth)
            key_position = self.position(event.start_mark)
            value = next(self._events)
            self._is_without_colon = value.start_mark.index == event.end_mark.index
            child = self._node(value, depth + 1, key_position)
            if name is not None:
                members[name] = child
        return members

    def _key(self, event: Any, members: Mapping[str, Node], depth: int) -> str | None:
        """The key that begins with an event; None after noting why it is none."""
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self.problem(event.start_mark, "a key must be text")
            self._node(event, depth + 1)
            return None
        self._refuse_decorations(event)
        name: str = event.value
        if "\0" in name:
            self.problem(event.start_mark, "NUL is not allowed")
        elif name == "<<" and not event.style:
            self.problem(event.start_mark, "YAML merge keys are not allowed", "write the keys out")
        elif name in members:
            first = f"first at {members[name].key_position}"
            self.problem(event.start_mark, f'key "{name}" is here twice', first)
        else:
            return name
        return None

    def scalar(self, event: Any) -> Any:
        """A plain scalar by the YAML 1.2 core schema; `010` is neither text nor a number."""
        text = event.value
        if text in _NULLS:
            hint = _EMPTY
            if self._is_without_colon and not text:
                hint = "a text that begins with `{` must be quoted"
            self.problem(event.start_mark, "a value is missing", hint)
            return ""
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text[0] not in _NUMBERS_BEGIN_WITH:
            return text
        if len(text) > NUMBER_CHARACTERS_MAX and (
            _INTEGER.fullmatch(text) or _LEADING_ZERO.fullmatch(text)
        ):
            self.problem(event.start_mark, "a number with too many digits", "quote it")
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        if _OTHER_NOTATION.fullmatch(text):
            self.problem(
                event.start_mark,
                f"{text} is a number to YAML, but of a kind that is not used here",
                "write it in decimal, or quote it if it is a text",
            )
            return text
        if _LEADING_ZERO.fullmatch(text):
            self.problem(
                event.start_mark, f"{text} is ambiguous: a number with a leading zero", "quote it"
            )
            return text
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                self.problem(event.start_mark, "a number beyond what can be held", "quote it")
            elif not is_exact(text):  # another number would stand in its place
                hint = "write fewer, or quote it if it is a text"
                self.problem(event.start_mark, "a number with more digits than can be held", hint)
            return number
        return text
