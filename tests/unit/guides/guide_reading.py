"""What stands in a page of documentation: blocks, commands, names, links, headings.

Knows: the Markdown that pages of this project are written in.
Must not know: whether what they say is so.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass

PROGRAM = "aegis-sidecar"
#: Where pages have agents call.
DATA_URL = "http://127.0.0.1:8080"

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_BETWEEN = frozenset(("&&", "||", "|", ";"))
_REDIRECTIONS = frozenset((">", ">>", "<", "2>"))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and what stands in it, without the indentation of a list."""

    language: str
    text: str

    @property
    def path(self) -> str:
        """Of a YAML block: the path that its first line names, "" without one."""
        named = re.match(r"# (\S+\.yaml)\n", self.text)
        return named[1] if named else ""

    def lines(self) -> list[str]:
        """Of a block of commands: one a line, continued lines joined, as a shell joins them."""
        whole = re.sub(r"'[^']*'", lambda said: said[0].replace("\n", " "), self.text)
        whole = whole.replace("\\\n", " ")
        return [line.strip() for line in whole.splitlines() if line.strip()]


def blocks(page: str) -> list[Block]:
    return [Block(found[2], textwrap.dedent(found[3])) for found in _FENCED.finditer(page)]


def commands(line: str) -> list[list[str]]:
    """The words of each program that a line of a shell starts, without redirections."""
    parts = shlex.shlex(line, posix=True, punctuation_chars=True)
    parts.whitespace_split = True
    parts.commenters = "#"
    words, found, is_target = list(parts), [[]], False
    for word in words:
        if word in _BETWEEN:
            found.append([])
        elif not is_target and word not in _REDIRECTIONS:
            found[-1].append(word)
        is_target = word in _REDIRECTIONS
    return [one for one in found if one]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCED.sub("", page)


def names(page: str) -> list[str]:
    """What stands between backquotes in the prose, each on one line."""
    return [" ".join(name.split()) for name in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> list[str]:
    """The targets of links and pictures in the prose."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page)))


def anchors(page: str) -> set[str]:
    """The headings, as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
