"""How much of the event loop's time watching may take, and the rests that keep it there.

Knows: the shares, what counts as busy, that no slice of work holds the loop for long, and that its
time is not what it computes: a core is shared with other threads and programs.
Must not know: what is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

#: While calls go through and the loop is busy with them: of what they compute.
SHARE_WITH_CALLS: Final = 0.03
#: Of the loop's time: while they leave it room; once what was not looked at is older than
#: `FAR_BEHIND_S`; and while nobody calls.
SHARE_WITH_ROOM: Final = 0.10
SHARE_FAR_BEHIND: Final = 0.12
SHARE_IDLE: Final = 0.5
FAR_BEHIND_S: Final = 30.0
#: There is room while calls take less of the loop than this, measured over `WINDOW_NS`, and who
#: waits for the loop waits less than `ROOM_LATE_NS`: other programs may keep it from computing. As
#: many calls as it can carry take two thirds of it, for they wait for commits too.
ROOM_BELOW: Final = 0.25
ROOM_LATE_NS: Final = 300_000
WINDOW_NS: Final = 500_000_000
#: So much of a new measurement goes into what is held to be the wait: one of so many.
LATE_WEIGHT: Final = 8
#: Calls are taken to compute at least so much.
OTHERS_MIN: Final = 0.05
#: The loop is given back after so much work at the latest.
SLICE_NS: Final = 500_000
#: Calls count as going through for so long after the last one.
CALLS_LINGER_NS: Final = 500_000_000
#: What reading a row takes of the interpreter, in the thread beside the loop (measured: 4-6 us).
READ_ROW_NS: Final = 5_000
REST_MAX_S: Final = 0.25


class Share:
    """One for a process. `cpu_ns` is what the loop's thread has computed, `calls` how many calls
    were decided in all; `rest` sleeps as long as the share asks for."""

    def __init__(
        self,
        *,
        cpu_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        calls: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cpu_ns = cpu_ns
        self._monotonic_ns = monotonic_ns
        self._calls = calls
        self._sleep = sleep
        self._slice_began_ns = 0
        self._calls_seen = 0
        self._calls_at_ns = -CALLS_LINGER_NS
        #: What others computed is measured from here; until it is, there is no room.
        self._window = (monotonic_ns(), cpu_ns(), 0)
        self._others = 1.0
        self._late_ns = ROOM_LATE_NS
        #: Work after which there was no rest yet.
        self._owed_ns = 0
        #: All work so far, for the share that is published.
        self.used_ns = 0

    def begin(self) -> None:
        """A slice of work begins; nothing else runs on the loop until it ends."""
        self._slice_began_ns = self._cpu_ns()

    def is_over(self) -> bool:
        """Whether the slice has taken all it may."""
        return self._cpu_ns() - self._slice_began_ns >= SLICE_NS

    def end(self, rows_read: int = 0) -> None:
        """Ends the slice, and the reading of so many rows; the rest for it is part of the next."""
        took_ns = max(0, self._cpu_ns() - self._slice_began_ns) + rows_read * READ_ROW_NS
        self.used_ns += took_ns
        self._owed_ns += took_ns

    async def rest(self, behind_s: float, rows_read: int = 0) -> None:
        """Ends the slice, gives the loop to others for as long as the share asks for, and begins
        the next."""
        self.end(rows_read)
        share = self.share(behind_s)
        owed_ns, self._owed_ns = self._owed_ns, 0
        await self._sleep(min(REST_MAX_S, owed_ns / 1e9 * (1.0 - share) / share))
        before_ns = self._monotonic_ns()
        await self._sleep(0)
        self._late_ns += (self._monotonic_ns() - before_ns - self._late_ns) // LATE_WEIGHT
        self.begin()

    def share(self, behind_s: float) -> float:
        """What may be taken of the loop's time now."""
        calls, now_ns = self._calls(), self._monotonic_ns()
        if calls != self._calls_seen:
            self._calls_seen, self._calls_at_ns = calls, now_ns
        if now_ns - self._calls_at_ns >= CALLS_LINGER_NS:
            return SHARE_IDLE
        if behind_s > FAR_BEHIND_S:
            return SHARE_FAR_BEHIND
        others = self._others_use(now_ns)
        if others < ROOM_BELOW and self._late_ns < ROOM_LATE_NS:
            return SHARE_WITH_ROOM
        return SHARE_WITH_CALLS * max(OTHERS_MIN, others)

    def _others_use(self, now_ns: int) -> float:
        """What all others took of the loop in the last whole window."""
        began_ns, cpu_ns, used_ns = self._window
        if now_ns - began_ns >= WINDOW_NS:
            now_cpu_ns = self._cpu_ns()
            others_ns = (now_cpu_ns - cpu_ns) - (self.used_ns - used_ns)
            self._others = max(0.0, others_ns / (now_ns - began_ns))
            self._window = (now_ns, now_cpu_ns, self.used_ns)
        return self._others
