"""Calls that wait for a yes: woken by what is decided here, or found decided elsewhere.

Knows: that many calls may wait for one approval; that a decision may be made by another process, of
which the store alone can tell: it is asked for all of them at once, and only while somebody waits.
Must not know: what is waited for, or what becomes of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from sidecar.bell import Bell
from storage.errors import StoreError

_log = logging.getLogger("aegis.approvals")

#: How often a store that several processes share is asked while calls are held.
POLL_S: Final = 0.2

#: Tenant and id of an approval.
Key = tuple[str, str]


class Waiting:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(self) -> None:
        self._events: dict[Key, tuple[asyncio.Event, list[int]]] = {}
        self._somebody = asyncio.Event()
        #: Rung where another process decided on something.
        self.bell = Bell()

    @property
    def count(self) -> int:
        """How many calls wait."""
        return sum(count[0] for _, count in self._events.values())

    @contextlib.contextmanager
    def joined(self, key: Key) -> Iterator[asyncio.Event]:
        """An event that is set when the approval may have been decided; joined before it is looked
        at, so that no decision is missed."""
        event, count = self._events.setdefault(key, (asyncio.Event(), [0]))
        count[0] += 1
        self._somebody.set()
        try:
            yield event
        finally:
            count[0] -= 1
            if not count[0] and self._events.get(key, (None,))[0] is event:
                del self._events[key]
                if not self._events:
                    self._somebody.clear()

    def wake(self, key: Key) -> None:
        """Those who wait for this one look again."""
        found = self._events.get(key)
        if found is not None:
            found[0].set()

    def wake_all(self) -> None:
        """Everybody looks again."""
        for event, _ in self._events.values():
            event.set()

    async def poll(self, decided: Callable[[Sequence[Key]], Awaitable[Sequence[Key]]]) -> None:
        """Wakes for decisions of other processes, for ever; `decided` gives those of some that wait
        no more. A store that does not answer is asked again."""
        while True:
            await self._somebody.wait()
            waiting = [key for key, (event, _) in self._events.items() if not event.is_set()]
            try:
                for key in await decided(waiting) if waiting else ():
                    self.wake(key)
            except StoreError as error:
                _log.warning("held calls cannot be looked after", extra={"cause": error.code})
            await self.bell.rest(POLL_S)


async def woken(event: asyncio.Event, wait_s: float) -> bool:
    """Waits for the event, at most so long; whether it came. It is cleared then."""
    try:
        async with asyncio.timeout(max(0.0, wait_s)):
            await event.wait()
    except TimeoutError:
        return False
    return True
