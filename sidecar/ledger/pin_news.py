"""What a list of tools says that the store does not know yet. Pure.

Knows: how definitions and pins are compared: a tool is first seen, says something else than it is
pinned to, or is again what it was; what has drifted to what was seen before is no news, nor is what
clients of the other era are told of it.
Must not know: stores, receipts, what is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.ledger.tool_definition import Definition
    from storage.standing import PinMark


@dataclass(slots=True)
class News:
    """Definitions first seen and other than pinned, and tools that are again what they were."""

    first: list[Definition] = field(default_factory=list)
    other: list[Definition] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def crowded_out(self, room: int) -> frozenset[str]:
        """Takes away what is first seen and for which there is no room; gives the names."""
        beyond = self.first[max(0, room) :]
        if beyond:
            self.first = self.first[: max(0, room)]
        return frozenset(one.tool for one in beyond)


def news_of(marks: Mapping[str, PinMark], definitions: Sequence[Definition]) -> News:
    """Of a name that a list gives to several tools, the one that is not pinned counts."""
    news = News()
    by_name: dict[str, list[Definition]] = {}
    for one in definitions:
        by_name.setdefault(one.tool, []).append(one)
    for tool, ones in by_name.items():
        mark = marks.get(tool)
        if mark is None:
            if not any(one.is_unknown for one in ones):  # there is nothing to hold it against later
                news.first.append(ones[0])
            continue
        other = next((one for one in ones if not one.is_what(mark.sha256)), None)
        if other is None and mark.seen_sha256:
            news.again.append(tool)
        elif other is not None and not other.is_what(mark.seen_sha256):
            news.other.append(other)
    return news
