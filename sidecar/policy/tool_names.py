"""Tools by their names, so that what a glob leads to is looked up and not searched for.

Knows: that whatever fits a glob begins with what stands before its first `*`, and ends with what
stands behind its last; so thousands of globs and thousands of tools need not all be compared.
Must not know: rules, what is done with the tools.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from sidecar.model import Tool
from sidecar.policy.matchers import Glob


class ToolNames:
    """An immutable table of tools, each with a name of its own."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._by_name = {tool.name: tool for tool in tools}
        self._place = {name: number for number, name in enumerate(self._by_name)}
        self._names = sorted(self._by_name)
        self._reversed = sorted(name[::-1] for name in self._by_name)

    @property
    def all(self) -> list[Tool]:
        """Every tool, in the order in which they were given."""
        return list(self._by_name.values())

    def candidates(self, globs: Sequence[Glob]) -> list[Tool]:
        """Every tool that fits one of the globs, and others, in the order in which they were
        given: whether one does fit takes a closer look."""
        if len(globs) == 1 and globs[0].is_literal:
            tool = self._by_name.get(globs[0].pattern)
            return [] if tool is None else [tool]
        found: set[str] = set()
        for glob in globs:
            found.update(self._led_to(glob))
        return [self._by_name[name] for name in sorted(found, key=self._place.__getitem__)]

    def _led_to(self, glob: Glob) -> Sequence[str]:
        if glob.is_literal:
            return [glob.pattern] if glob.pattern in self._by_name else []
        first, last = glob.pieces[0], glob.pieces[-1]
        beginning = _beginning_with(self._names, first)
        if not last:
            return beginning
        ending = _beginning_with(self._reversed, last[::-1])
        if len(beginning) <= len(ending):
            return beginning
        return [name[::-1] for name in ending]


def _beginning_with(names: list[str], text: str) -> list[str]:
    """Of sorted names."""
    length = len(text)
    end = bisect_right(names, text, key=lambda name: name[:length])
    return names[bisect_left(names, text) : end]
