"""Goes over older receipts, slowly and again and again: does what was recorded still stand?

Knows: that new receipts are held against their hashes when detections read them, and that what is
changed later is only found by looking again; how far a round has come is kept, so that a start goes
on there; and that of several processes on a store one sweeps a tenant at a time.
Must not know: what is done about a break.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sidecar.soc.chain_link import BROKEN, Break, Link
from sidecar.soc.watch_lease import first_mark, may_claim, moved
from sidecar.soc.watch_start import link_at, over_the_cut
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.ledger.fence import Fence
    from sidecar.soc.watch_rooms import Broke, Rooms
    from storage.records import ReceiptRow
    from storage.watch_rows import WatchMark

_log = logging.getLogger("aegis.soc")

#: The sweep's mark, as the store knows it.
SWEEPER: Final = "chain"
#: Receipts that are looked at in one go: half a millisecond of the loop.
PAGE_ROWS: Final = 50
#: Share of the loop's time, and the shortest rest after a page.
SHARE: Final = 0.005
REST_MIN_S: Final = 0.1
#: Pages until it is kept how far a round has come; at the shortest rest that is a few seconds.
PAGES_A_MARK: Final = 40
#: From the end of a round to the beginning of the next, and between looks whether it is time.
ROUND_EVERY_US: Final = 6 * 3_600_000_000
LOOK_S: Final = 30.0


class ChainSweep:
    """For some tenants of one store; `broke` is told of each place that does not hold."""

    def __init__(
        self,
        tenants: Sequence[str],
        rooms: Rooms,
        fence: Fence,
        broke: Broke,
        *,
        round_every_us: int = ROUND_EVERY_US,
        look_s: float = LOOK_S,
        rest_s: float = REST_MIN_S,
    ) -> None:
        self._tenants = tuple(tenants)
        self._rooms = rooms
        self._store = rooms.store
        self._clock = rooms.clock
        self._fence = fence
        self._counts = rooms.counts
        self._broke = broke
        self._round_every_us = round_every_us
        self._look_s = look_s
        self._rest_s = rest_s

    async def run(self) -> None:
        """For ever."""
        while True:
            for tenant in self._tenants:
                if self._fence.is_up or not self._rooms.detections().all:
                    break
                try:
                    await self.round(tenant)
                except StoreError as error:
                    self._counts.failed(error.code)
                    _log.debug("a chain cannot be looked at now", extra={"cause": error.code})
            await asyncio.sleep(self._look_s)

    async def round(self, tenant: str) -> None:
        """From where the last round was left to the head, if it is time and nobody else does it.
        Raises a StoreError."""
        head = await self._store.head(tenant)
        mark = await self._claimed(tenant) if head.seq else None
        if mark is None:
            return
        link = await over_the_cut(self._store, tenant, await link_at(self._store, tenant, mark.seq))
        pages = 0
        while link.seq < head.seq:
            rows = await self._store.receipts(tenant, link.seq, PAGE_ROWS)
            if not rows:
                what = f"receipts {link.seq + 1} to {head.seq} are missing"
                self._broke(tenant, Break(link.seq + 1, BROKEN, what, link.evidence))
                break
            if rows[0].seq > link.seq + 1:
                link = await over_the_cut(self._store, tenant, link)
            await self._look_at(tenant, link, [row for row in rows if row.seq > link.seq])
            pages += 1
            if pages % PAGES_A_MARK == 0:
                ahead = await self._moved(mark, link.seq)
                if ahead is None:
                    return
                mark = ahead
            if self._fence.is_up:
                return
        await self._moved(mark, 0)

    async def _look_at(self, tenant: str, link: Link, rows: Sequence[ReceiptRow]) -> None:
        began_ns = self._clock.monotonic_ns()
        for row in rows:
            found = link.follow(row)
            if found is not None:
                self._broke(tenant, found)
        self._counts.swept += len(rows)
        took_s = (self._clock.monotonic_ns() - began_ns) / 1e9
        await asyncio.sleep(max(self._rest_s, took_s * (1.0 - SHARE) / SHARE))

    async def _claimed(self, tenant: str) -> WatchMark | None:
        node = self._store.node_id
        at_us = await self._store.clock_us()
        mark = await self._store.watch_mark(tenant, SWEEPER)
        if mark is None:
            fresh = first_mark(tenant, SWEEPER, node, 0, at_us)
            return fresh if await self._store.put_rows(tenant, [fresh]) else None
        is_due = mark.seq > 0 or at_us >= mark.changed_at_us + self._round_every_us
        if not is_due or not may_claim(mark, node, at_us):
            return None
        return await self._moved(mark, mark.seq)

    async def _moved(self, mark: WatchMark, seq: int) -> WatchMark | None:
        at_us = await self._store.clock_us()
        ahead = moved(mark, self._store.node_id, seq, at_us)
        return ahead if await self._store.put_rows(mark.tenant_id, [ahead]) else None
