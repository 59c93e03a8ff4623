"""Calls of one run that found it changed again and again, one after the other.

Knows: that of calls whose decisions rest on their run, and which change it, only one of a batch can
be right about it. However often they all try again, no more of them get through than there are
tries; in turn each finds the run as the one before has left it. Whoever waits too long tries
without.
Must not know: what a run is, what is done in a turn.
"""

from __future__ import annotations

import asyncio
from typing import Final

#: A turn takes one commit; where commits do not come at all, nobody waits behind all the others.
WAIT_S: Final = 2.0

Key = tuple[str, str]


class Turn:
    """Somebody's, or that of who waited too long and tries without; `end` it, once or more."""

    __slots__ = ("_key", "_turns")

    def __init__(self, turns: Turns | None, key: Key) -> None:
        self._turns = turns
        self._key = key

    def end(self) -> None:
        """The next one may begin."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.pass_on(self._key)


class _Line:
    """Who waits for a run, and who has it."""

    __slots__ = ("count", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.count = 0


class Turns:
    """By run; nothing is kept of one that nobody waits for. All on the event loop's thread."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._lines: dict[Key, _Line] = {}

    @property
    def line_count(self) -> int:
        """How many runs have a line."""
        return len(self._lines)

    async def take(self, key: Key) -> Turn:
        """The caller's turn, once it comes; none of its own if it does not come in time."""
        line = self._lines.setdefault(key, _Line())
        line.count += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await line.lock.acquire()
        except TimeoutError:
            self._leave(key, line)
            return Turn(None, key)
        except BaseException:
            self._leave(key, line)
            raise
        return Turn(self, key)

    def pass_on(self, key: Key) -> None:
        """Whose turn it was is done."""
        line = self._lines[key]
        line.lock.release()
        self._leave(key, line)

    def _leave(self, key: Key, line: _Line) -> None:
        line.count -= 1
        if not line.count:
            del self._lines[key]
