"""Ends containments whose time is over, on record, woken by the end of the next one.

Knows: that what blocks a call stops counting by itself at that very time; the record of it, and an
agent that is to stand as before, wait for this. Where several processes share a store whoever is
first ends it; the others find it ended.
Must not know: who contained what, and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from sidecar.identity.changes import ChangeRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.clock import Clock
    from sidecar.identity.containing import Containing
    from storage.watch_rows import ContainmentRow

_log = logging.getLogger("aegis.containments")

#: Who ends what nobody ends.
SIDECAR: Final = "sidecar"
#: How long until it is tried again when the store, or its clock, would not.
AGAIN_S: Final = 0.5
#: Nothing is waited for longer, so that a clock that was set is noticed.
WAIT_S_MAX: Final = 30.0


async def sweep(containing: Containing, clock: Clock) -> None:
    """For ever."""
    changed = containing.registry.containments_changed
    while True:
        changed.clear()
        wait_s = await swept(containing, clock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await changed.wait()


async def swept(containing: Containing, clock: Clock) -> float | None:
    """Ends what is over; how long to wait for the next end, None if nothing has one."""
    waits: list[float] = []
    for row, ahead_us in list(_ending(containing)):
        left_us = row.until_us - (clock.steady_us() + ahead_us)
        if left_us <= 0 and not await _ended(containing, row):
            waits.append(AGAIN_S)
        elif left_us > 0:
            waits.append(min(left_us / 1e6, WAIT_S_MAX))
    return min(waits, default=None)


def _ending(containing: Containing) -> Iterator[tuple[ContainmentRow, int]]:
    """Active ones with an end, and how far the store's clock is ahead of ours."""
    for view in containing.registry.views():
        for row in view.containments:
            if row.until_us:
                yield row, view.ahead_us


async def _ended(containing: Containing, row: ContainmentRow) -> bool:
    try:
        return await containing.expire(row, SIDECAR)
    except ChangeRefused as refused:
        _log.warning(
            "a containment that is over cannot be ended now",
            extra={"containment_id": row.containment_id, "cause": refused.code},
        )
        return False
