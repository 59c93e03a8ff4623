"""Names of arguments that look like slips, where no tool declares which names there are.

Knows: that a name which one rule alone reads, and which is one keystroke from a name that others
read of the same tools (or that stands in their route), is most likely misspelt. A guess, and so a
warning; where the tools declare their arguments it is an error, and found elsewhere.
Must not know: CEL, files, how a rule is judged.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from sidecar.policy.fields import Problems
from sidecar.policy.text_places import Place

#: Shorter words are near to too many others.
_LENGTH_MIN: Final = 5
#: With more names than this nothing is compared.
_NAMES_MAX: Final = 500
_DECLARE: Final = "If the catalogue declares `args`, slips are errors"
_DIGITS: Final = re.compile(r"\d+")


class _Reader(NamedTuple):
    """A rule or a variable, the arguments it reads with their places, and on which tools."""

    arguments: Mapping[str, Place]
    tools: frozenset[str]


class ArgumentSlips:
    """Gathers who reads what, and says at the end what looks misspelt."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._readers: list[_Reader] = []

    def note(self, arguments: Mapping[str, Place], tools: Iterable[str]) -> None:
        """One that reads arguments of tools of which at least one declares none."""
        if arguments:
            self._readers.append(_Reader(arguments, frozenset(tools)))

    def conclude(self, in_routes: Mapping[str, Iterable[str]]) -> None:
        """`in_routes` are the arguments that stand in the route of a tool, by its name."""
        by_name: defaultdict[str, list[_Reader]] = defaultdict(list)
        for reader in self._readers:
            for name in reader.arguments:
                by_name[name].append(reader)
        routed = {name for names in in_routes.values() for name in names}
        if len(by_name) > _NAMES_MAX:
            return
        for name, readers in by_name.items():
            if len(readers) == 1 and name not in routed:
                self._compare(name, readers[0], by_name, in_routes)

    def _compare(
        self,
        name: str,
        reader: _Reader,
        by_name: Mapping[str, list[_Reader]],
        in_routes: Mapping[str, Iterable[str]],
    ) -> None:
        """A rule that reads both names means both."""
        on_route = {one for tool in reader.tools for one in in_routes.get(tool, ())}
        for other in sorted({*by_name, *on_route}):
            if other in reader.arguments or not is_a_slip(name, other):
                continue
            readers = [one for one in by_name.get(other, ()) if one.tools & reader.tools]
            if other in on_route or len(readers) > 1:
                message = f'nothing else reads the argument "{name}" of these tools'
                hint = f'did you mean "{other}"? {_DECLARE}'
            elif readers and name > other:  # of two it is said once
                place = readers[0].arguments[other]()
                message = f'"{name}" is read here, "{other}" of the same tools at {place}'
                hint = f"one of them may be misspelt. {_DECLARE}"
            else:
                continue
            self._problems.warning(reader.arguments[name](), message, hint)
            return


def is_a_slip(name: str, other: str) -> bool:
    """Whether two names differ by one keystroke: a letter more, less, another, or two in the wrong
    order. A plural and another number are meant."""
    if abs(len(name) - len(other)) > 1 or name == other or max(len(name), len(other)) < _LENGTH_MIN:
        return False
    if (
        name + "s" == other
        or other + "s" == name
        or _DIGITS.sub("", name) == _DIGITS.sub("", other)
    ):
        return False
    at = next((n for n, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), None)
    if at is None:
        return True  # one more letter at the end
    if len(name) == len(other):
        swapped = name[at : at + 2] == other[at : at + 2][::-1] and len(name[at : at + 2]) == 2
        return name[at + 1 :] == other[at + 1 :] or (swapped and name[at + 2 :] == other[at + 2 :])
    longer, shorter = (name, other) if len(name) > len(other) else (other, name)
    return longer[at + 1 :] == shorter[at:]
