"""Problems found in the files a user writes: where, what, and how to mend it.

Knows: positions and how to print them. One form for configuration, catalogues, policies and
tests, so that every tool prints `file:line:column: error: message` and prints all at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Position(NamedTuple):
    """A place in a file; line and column count from 1. Line 0 means the file as a whole."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a file. Warnings do not stop a load."""

    position: Position
    message: str
    hint: str = ""
    is_warning: bool = False

    def __str__(self) -> str:
        kind = "warning" if self.is_warning else "error"
        text = f"{self.position}: {kind}: {self.message}"
        return f"{text}\n    hint: {self.hint}" if self.hint else text

    def as_json(self) -> dict[str, Any]:
        """As JSON values; `line` and `column` are null where the file as a whole is meant."""
        place = self.position
        return {
            "source": place.source,
            "line": place.line or None,
            "column": place.column or None,
            "severity": "warning" if self.is_warning else "error",
            "message": self.message,
            "hint": self.hint or None,
        }


def errors_only(problems: Iterable[Problem]) -> list[Problem]:
    """Those that stop a load."""
    return [problem for problem in problems if not problem.is_warning]
