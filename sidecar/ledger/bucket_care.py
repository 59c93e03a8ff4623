"""Forgets the buckets of limits that say nothing any more, so that the table stays as small as
what is still counted.

Knows: that a bucket whose window is over is the same as none, so that forgetting it decides
nothing; that nothing may change while the store is being moved.
Must not know: what a bucket holds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from sidecar.clock import Clock
from sidecar.ledger.fence import Fence
from storage.errors import StoreError

_log = logging.getLogger("aegis.ledger")

EVERY_S = 60.0


class ForgetsBuckets(Protocol):
    """What is needed of a store."""

    async def drop_idle_buckets(self, at_us: int) -> int:
        """Forgets some; gives how many."""
        ...


async def forget_idle_buckets(
    store: ForgetsBuckets, clock: Clock, fence: Fence, every_s: float = EVERY_S
) -> None:
    """Again and again until cancelled. A failure is logged, and it is tried again next time."""
    while True:
        await asyncio.sleep(every_s)
        try:
            dropped = 1
            while dropped and not fence.is_up:
                dropped = await store.drop_idle_buckets(clock.steady_us())
        except StoreError as error:
            _log.warning("idle buckets of limits were not forgotten", extra={"cause": error.code})
