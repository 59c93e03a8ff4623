"""Servers that have announced that their tools changed, until their lists were compared anew. Pure.

Knows: that from the announcement on (`notifications/tools/list_changed`) a pin tells nothing of a
tool, until the whole list was compared with the pins; that a list counts page by page, from a first
one that was asked for after the announcement to the last; that who announces again begins anew.
Must not know: pins, messages, clocks, who is refused what. It is this process's own: another one
minds what passes through it, and a restart forgets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

#: Pages of one list that may be waited for; of more, whoever asks for the oldest begins anew.
PAGES_MAX: Final = 256

#: Tenant and upstream; both stand in the configuration, which bounds them.
Place = tuple[str, str]


@dataclass(slots=True)
class _Announced:
    """When it was announced, and by their cursors pages whose predecessors were all compared, with
    the time at which the first of these was asked for."""

    at_ns: int
    pages: dict[bytes, int] = field(default_factory=dict)


class Announcements:
    """One for a sidecar; `open` is empty while no list is owed, so that a look costs nothing."""

    def __init__(self) -> None:
        self.open: dict[Place, _Announced] = {}

    def announce(self, tenant: str, upstream: str, now_ns: int) -> bool:
        """From now on the list is owed; whether it was not already."""
        is_news = (tenant, upstream) not in self.open
        self.open[tenant, upstream] = _Announced(now_ns)
        return is_news

    def compared(
        self, tenant: str, upstream: str, asked_ns: int, cursor: str | None, next_cursor: object
    ) -> bool:
        """A page was compared: that behind `cursor`, asked for at `asked_ns`. Whether the list is
        whole by that, and no longer owed."""
        announced = self.open.get((tenant, upstream))
        if announced is None:
            return False
        begun_ns = announced.pages.get(_digest(cursor)) if cursor else asked_ns
        if begun_ns is None or begun_ns <= announced.at_ns:
            return False
        if next_cursor in (None, ""):
            del self.open[tenant, upstream]
            return True
        if isinstance(next_cursor, str):
            announced.pages[_digest(next_cursor)] = begun_ns
            if len(announced.pages) > PAGES_MAX:
                del announced.pages[next(iter(announced.pages))]
        return False


def _digest(cursor: str) -> bytes:
    """A cursor may be long, and of whatever a server likes."""
    return hashlib.sha256(cursor.encode("utf-8", "surrogatepass")).digest()
