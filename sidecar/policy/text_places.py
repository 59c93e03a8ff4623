"""Where a character of a text stands in its file: a condition may be a block of several lines.

Knows: how YAML lays a text out, plain, in quotes or as a block of lines.
Must not know: what the text means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sidecar.problems import Position
from sidecar.yaml_reader import Node

#: Where something stands, worked out when it is asked for: of most nothing is ever said.
Place = Callable[[], Position]


class Texts:
    """The bytes of the sources, to find the column of a place inside a text."""

    def __init__(self, data: Mapping[str, bytes]) -> None:
        self._data = data
        self._lines: dict[str, list[str]] = {}

    def place(self, node: Node, offset: int) -> Position:
        """Where the character at `offset` of a text stands in its file."""
        before = node.value.rstrip()[:offset]  # the end of a block is not where anything stands
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        start = node.position
        lines = self._of(start.source)
        here = lines[start.line - 1] if 0 < start.line <= len(lines) else ""
        opening = here[start.column - 1 : start.column]
        if opening == "|":
            following = (lines[number] for number in range(start.line, len(lines)))
            first = next((one for one in following if one.strip()), "")
            indent = len(first) - len(first.lstrip())
            return Position(start.source, start.line + 1 + line, indent + column + 1)
        if opening == ">" or line:
            return start
        quote = 1 if opening in "'\"" and not node.is_plain else 0
        return Position(start.source, start.line, start.column + quote + column)

    def _of(self, source: str) -> list[str]:
        if source not in self._lines:
            text = self._data.get(source, b"").decode("utf-8", "replace")
            self._lines[source] = text.split("\n")
        return self._lines[source]
