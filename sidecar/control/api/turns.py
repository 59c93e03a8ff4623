"""Whose turn it is where few may do something at once: tenant by tenant, and person by person.

Knows: that whoever asks for much waits for himself, and whoever asks for little goes before the
rest of it: next is the tenant whose last turn is longest ago, of it such a person, and of what he
asks what came first.
Must not know: what is done, HTTP.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

#: Tenants and persons whose last turn is remembered while somebody waits.
REMEMBERED_MAX: Final = 4_096


class Whose(NamedTuple):
    """Who asks."""

    tenant: str
    actor: str


class _Waiting(NamedTuple):
    """Somebody who waits; `turn` is done when it is his."""

    whose: Whose
    arrival: int
    turn: asyncio.Future[None]


class Turns:
    """Of one thing, of which so many are done at once. Everything is done on the event loop."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: list[_Waiting] = []
        #: The number of the last turn of each tenant and each of its persons.
        self._last: dict[tuple[str, ...], int] = {}
        self._count = 0

    async def take(self, whose: Whose) -> None:
        """Waits for a turn, which `give_back` ends; cancelled, there was none."""
        self._count += 1
        if self._free:
            self._begin(whose)
            return
        mine = _Waiting(whose, self._count, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        try:
            await mine.turn
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:  # it was his already
                self.give_back()
            raise

    def give_back(self) -> None:
        """A turn ends, and that of somebody who waits begins."""
        self._free += 1
        if self._waiting:
            following = min(self._waiting, key=self._rank)
            self._waiting.remove(following)
            self._begin(following.whose)
            following.turn.set_result(None)
        elif len(self._last) > REMEMBERED_MAX:
            self._last.clear()

    def _begin(self, whose: Whose) -> None:
        self._free -= 1
        self._count += 1
        self._last[whose.tenant,] = self._last[whose] = self._count

    def _rank(self, one: _Waiting) -> tuple[int, int, int]:
        last = self._last
        return last.get((one.whose.tenant,), 0), last.get(one.whose, 0), one.arrival
