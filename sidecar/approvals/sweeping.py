"""Ends what nobody decided in time, on record, woken by the time of the next one.

Knows: that what others opened in a shared store is to be ended too, if they are gone: the store is
asked for it now and then. A call, or a person, who meets one that is over does not wait for this.
Must not know: who asked, what a decision means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.errors import Refused
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.approvals.changes import Changes
    from storage.standing import ApprovalRow

_log = logging.getLogger("aegis.approvals")

#: How often a store that several processes share is asked which approvals are open.
RELOAD_S: Final = 30.0
#: How long until it is tried again when the store, or its clock, would not.
AGAIN_S: Final = 1.0
#: Nothing is waited for longer: timers stand still while the machine sleeps, the clock does not.
WAIT_S_MAX: Final = 30.0
PAGE: Final = 500


class ReadsOpen(Protocol):
    """What is needed of a store."""

    async def tenants(self) -> list[str]:
        """Every tenant that has a head."""
        ...

    async def approval(self, tenant_id: str, approval_id: str) -> ApprovalRow | None:
        """One approval."""
        ...

    async def open_approvals(self, tenant_id: str, after_id: str, limit: int) -> list[ApprovalRow]:
        """Open ones."""
        ...


async def sweep(changes: Changes, reader: ReadsOpen, *, is_alone: bool) -> None:
    """For ever. `is_alone` says that no other process writes to the store."""
    register = changes.register
    is_read = False
    while True:
        try:
            if not is_read or not is_alone:
                await _read(changes, reader)
                is_read = True
            again_s = await _end_what_is_over(changes, reader)
        except (StoreError, Refused) as error:
            _log.warning("approvals cannot be ended now", extra={"cause": error.code})
            again_s = AGAIN_S
        end_us = register.next_end_us()
        waits = []
        if end_us is not None:
            left_s = (end_us - changes.now_us()) / 1e6
            waits.append(max(again_s, min(left_s, WAIT_S_MAX)))
        if not is_alone or not is_read:
            waits.append(RELOAD_S if is_read else AGAIN_S)
        register.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits, default=None)):
                await register.changed.wait()


async def _read(changes: Changes, reader: ReadsOpen) -> None:
    for tenant in await reader.tenants():
        rows: list[ApprovalRow] = []
        after_id = ""
        while page := await reader.open_approvals(tenant, after_id, PAGE):
            rows += page
            after_id = page[-1].approval_id
        changes.register.learn(tenant, rows)


async def _end_what_is_over(changes: Changes, reader: ReadsOpen) -> float:
    """Ends them one by one; how long to wait at least before the next try."""
    again_s = 0.0
    for key in changes.register.over(changes.now_us()):
        row = await reader.approval(*key)
        if row is None or row.state not in ("pending", "approved"):
            changes.register.forget(key)
        elif not await changes.expire(row):
            again_s = AGAIN_S
    return again_s
