"""Whether what is asked can be read where it stands in a list. Pure.

Knows: that what has to be scrolled for is not read, and that a list of many is made every two
seconds: what is long has a page of its own.
Must not know: what is asked, how it is presented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Characters of all texts and names together, and lines that values take.
CHARACTERS_MAX: Final = 1_500
LINES_MAX: Final = 40


def fits(asked: Mapping[str, Any]) -> bool:
    """Whether a list has room for it, as it was written down for approvers; what was cut never
    fits. No more of it is looked at than there is room for."""
    return not asked.get("is_cut") and _Room().takes(asked)


class _Room:
    """What is left of it."""

    def __init__(self) -> None:
        self._characters, self._lines = CHARACTERS_MAX, LINES_MAX

    def takes(self, value: Any) -> bool:
        """Whether there is room for the value too."""
        self._lines -= 1
        if isinstance(value, str):
            self._characters -= len(value)
        if self._lines < 0 or self._characters < 0:
            return False
        if isinstance(value, Mapping):
            return all(self._takes_name(name) and self.takes(one) for name, one in value.items())
        return not isinstance(value, list) or all(map(self.takes, value))

    def _takes_name(self, name: str) -> bool:
        self._characters -= len(name)
        return True
