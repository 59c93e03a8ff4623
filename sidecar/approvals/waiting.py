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
        #: An event for each call that waits, the one that came last at the end.
        self._lines: dict[Key, dict[asyncio.Event, None]] = {}
        self._somebody = asyncio.Event()
        #: Rung where another process decided on something.
        self.bell = Bell()

    @property
    def count(self) -> int:
        """How many calls wait."""
        return sum(len(line) for line in self._lines.values())

    @contextlib.contextmanager
    def joined(self, key: Key) -> Iterator[asyncio.Event]:
        """An event of the caller's own that is set when the approval may have been decided, or he
        is the last by now; joined before it is looked at, so that no decision is missed."""
        event, line = asyncio.Event(), self._lines.setdefault(key, {})
        line[event] = None
        self._somebody.set()
        try:
            yield event
        finally:
            was_last = self.is_last(key, event)
            del line[event]
            if line:
                if was_last:
                    next(reversed(line)).set()
            else:
                del self._lines[key]
                if not self._lines:
                    self._somebody.clear()

    def is_last(self, key: Key, event: asyncio.Event) -> bool:
        """Whether no call that waits for this one came later. A yes is that call's: a client that
        waits no longer often leaves its request open and asks again, and the answer to the first
        would reach nobody."""
        return next(reversed(self._lines[key])) is event

    def wake(self, key: Key) -> None:
        """Those who wait for this one look again."""
        for event in self._lines.get(key, ()):
            event.set()

    def wake_all(self) -> None:
        """Everybody looks again."""
        for key in self._lines:
            self.wake(key)

    async def poll(self, decided: Callable[[Sequence[Key]], Awaitable[Sequence[Key]]]) -> None:
        """Wakes for decisions of other processes, for ever; `decided` gives those of some that wait
        no more. A store that does not answer is asked again."""
        while True:
            await self._somebody.wait()
            waiting = [key for key, line in self._lines.items() if not all(map(_is_set, line))]
            try:
                for key in await decided(waiting) if waiting else ():
                    self.wake(key)
            except StoreError as error:
                _log.warning("held calls cannot be looked after", extra={"cause": error.code})
            await self.bell.rest(POLL_S)


_is_set = asyncio.Event.is_set


async def woken(event: asyncio.Event, wait_s: float) -> bool:
    """Waits for the event, at most so long; whether it came."""
    try:
        async with asyncio.timeout(max(0.0, wait_s)):
            await event.wait()
    except TimeoutError:
        return False
    return True
