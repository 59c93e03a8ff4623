"""Forgets what agents said once, when its time is over, so that the table stays as small as a day.

Knows: that a row whose time is over decides nothing any more; that nothing may change while the
store is being moved.
Must not know: what was said.
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


class ForgetsSaid(Protocol):
    """What is needed of a store."""

    async def tenants(self) -> list[str]:
        """Job across tenants: every tenant that has a head."""
        ...

    async def forget_said(self, tenant_id: str, at_us: int) -> int:
        """Forgets some of a tenant's; gives how many."""
        ...


async def forget_what_was_said(
    store: ForgetsSaid, clock: Clock, fence: Fence, every_s: float = EVERY_S
) -> None:
    """Again and again until cancelled. A failure is logged, and it is tried again next time."""
    while True:
        await asyncio.sleep(every_s)
        try:
            for tenant in await store.tenants():
                forgotten = 1
                while forgotten and not fence.is_up:
                    forgotten = await store.forget_said(tenant, clock.steady_us())
        except StoreError as error:
            _log.warning("what was said once was not forgotten", extra={"cause": error.code})
