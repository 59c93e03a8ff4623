"""The YAML of a catalogue that is written for review: keys, values, comments, the draft.

Knows: what must be quoted, and that whoever described a tool must not write our YAML.
Must not know: where the tools come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sidecar.cli.terminal_text import fit

COMMENT_LENGTH_MAX = 100
#: Reasons and notes of our own, which quote a document's words.
NOTE_LENGTH_MAX = 300
#: What of a text is looked at for a comment; descriptions can be books.
_LOOKED_AT_MAX = 1000

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*")
_NOT_PLAIN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(slots=True)
class Draft:
    """A catalogue's text, and what a person should know that it does not hold."""

    text: str
    tool_count: int
    notes: list[str] = field(default_factory=list)


def key(name: str) -> str:
    """A name as a key of a mapping, in quotes where a reader could take it for more."""
    if _PLAIN_KEY.fullmatch(name) and name.lower() not in _NOT_PLAIN:
        return name
    return quoted(name)


def value(kind: str) -> str:
    """A declaration such as `[int]?` as the value of a key."""
    return quoted(kind) if kind.startswith("[") else kind


def quoted(text: str) -> str:
    """Printable text in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def comment(text: str, length_max: int = COMMENT_LENGTH_MAX) -> str:
    """One line of printable text: whoever described a tool must not write our YAML, nor to the
    terminal of who reviews it."""
    line = fit(" ".join(text[:_LOOKED_AT_MAX].split()))
    return line if len(line) <= length_max else line[: length_max - 1] + "…"
