"""One tenant, as a process watches it: claims its record, has it read, begins anew when it must.

Knows: that a first start begins at the head; that whoever watched last takes it up again at once,
and another node only when the lease has run out and nobody looks at what is new; that an engine is
made of what was remembered and of reading again; that whoever takes it up does first what is
still owed about alerts; that other detections mean another engine, and what stays of them comes to
the same state again.
Must not know: how a record is read, what a detection looks for, other tenants.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.soc.chain_link import ROLLED_BACK, Break
from sidecar.soc.engine import Engine
from sidecar.soc.model import Evidence
from sidecar.soc.owed import OWED, is_open
from sidecar.soc.watch_lease import GRACE_NS, WATCHER, first_mark, may_claim, moved
from sidecar.soc.watch_reading import Overtaken, Reading
from sidecar.soc.watch_standing import KNOWN, known_by, new_to, noted, own_rows
from sidecar.soc.watch_start import REBUILD_RECEIPTS_MAX, start_before
from storage.watch_rows import WatchMemory

if TYPE_CHECKING:
    from sidecar.soc.watch_rooms import Broke, Rooms
    from storage.known_heads import Seen
    from storage.watch_rows import WatchMark

_log = logging.getLogger("aegis.soc")

MEMORIES_PAGE: Final = 500
#: How often a tenant is asked for that another node watched, and, while its lease runs, watches.
ASK_AGAIN_NS: Final = 1_000_000_000
ASK_HELD_NS: Final = 3_000_000_000


class Watched:
    """`turn` is called again and again, by one task; `broke` is told where the chain does not
    hold."""

    def __init__(
        self, tenant: str, rooms: Rooms, broke: Broke, receipts_max: int = REBUILD_RECEIPTS_MAX
    ) -> None:
        self.tenant = tenant
        self._rooms = rooms
        self._broke = broke
        self._receipts_max = receipts_max
        self._reading: Reading | None = None
        self._revision = ""
        self._stuck_seq = self._given_up_seq = 0
        self._ask_ns = 0
        self._foreign_version = 0
        self._foreign_since_ns = 0

    @property
    def is_watching(self) -> bool:
        """Whether this process watches the tenant now."""
        return self._reading is not None

    def lag_s(self) -> float:
        """How old what is to be looked at is; 0 of what another watches."""
        return self._reading.lag_s() if self._reading is not None else 0.0

    def is_idle(self, head: Seen) -> bool:
        """Whether a turn would find nothing to do."""
        reading = self._reading
        is_same = self._revision == self._rooms.detections().revision
        return reading is not None and is_same and reading.is_idle(head)

    async def begin(self, head: Seen) -> None:
        """Sees to it that there is a mark before the first call: watching begins at the head of
        what is there. Raises a StoreError."""
        store = self._rooms.store
        if await store.watch_mark(self.tenant, WATCHER) is None:
            at_us = await store.clock_us()
            mark = first_mark(self.tenant, WATCHER, store.node_id, head.seq, at_us)
            await store.put_rows(self.tenant, [mark])

    async def turn(self, head: Seen) -> bool:
        """Looks at some of what is new, up to `head`; whether there is more to do at once.

        Raises a StoreError; what was noticed is committed by a later turn.
        """
        if self._reading is not None and self._revision != self._rooms.detections().revision:
            self.drop()
        if self._reading is None:
            self._reading = await self._claimed(head)
        if self._reading is None:
            return False
        reading = self._reading
        try:
            has_more = await reading.turn(head)
        except Overtaken as overtaken:
            self._rooms.counts.overtaken += 1
            self._give_up(overtaken.stuck_seq)
            self.drop()
            return True
        if reading.mark.seq >= self._stuck_seq:
            self._stuck_seq = 0
        return has_more

    def _give_up(self, stuck_seq: int) -> None:
        """What an engine made anew finds, and is not taken again, must not keep all that comes
        after it from being noticed."""
        if stuck_seq and self._stuck_seq:
            self._given_up_seq = max(stuck_seq, self._stuck_seq)
        self._stuck_seq = stuck_seq

    def drop(self) -> None:
        """Forgets all; the next turn claims and reads anew."""
        self._reading = None

    async def end(self) -> None:
        """Keeps how far it has come. Raises a StoreError."""
        if self._reading is not None:
            await self._reading.end()
            self.drop()

    # -- claiming ------------------------------------------------------------------------------

    async def _claimed(self, head: Seen) -> Reading | None:
        """The reading, if this process may watch now."""
        store, now_ns = self._rooms.store, self._rooms.clock.monotonic_ns()
        if now_ns < self._ask_ns:
            return None
        mark = await store.watch_mark(self.tenant, WATCHER)
        if mark is None:
            await self.begin(head)
            return None
        at_us = await store.clock_us()
        if not self._is_free(mark, head, at_us, now_ns):
            left_ns = (mark.until_us - at_us) * 1_000
            self._ask_ns = now_ns + min(max(ASK_AGAIN_NS, left_ns), ASK_HELD_NS)
            return None
        claimed = moved(mark, store.node_id, mark.seq, at_us)
        if not await store.put_rows(self.tenant, [claimed]):
            self._ask_ns = now_ns + ASK_AGAIN_NS
            return None
        return await self._begun(claimed)

    def _is_free(self, mark: WatchMark, head: Seen, at_us: int, now_ns: int) -> bool:
        """Another node that only had nothing to do gets the time to take up what is new."""
        if mark.node_id == self._rooms.store.node_id:
            return True
        if not may_claim(mark, self._rooms.store.node_id, at_us) or head.seq <= mark.seq:
            self._foreign_version = 0
            return False
        if mark.version != self._foreign_version:
            self._foreign_version, self._foreign_since_ns = mark.version, now_ns
        return now_ns - self._foreign_since_ns >= GRACE_NS

    async def _begun(self, mark: WatchMark) -> Reading:
        """A reading from so far back that all is known once it comes to the mark."""
        rooms, tenant = self._rooms, self.tenant
        detections = rooms.detections()
        engine = Engine(detections, tenant)
        after, owed, own = ("", ""), list[WatchMemory](), None
        while rows := await rooms.store.watch_memories(tenant, after, MEMORIES_PAGE):
            engine.remember(row for row in rows if row.detection not in (OWED, KNOWN))
            owed += (row for row in rows if is_open(row))
            own = own or own_rows(rows)
            after = (rows[-1].detection, rows[-1].subject)
        if owed:
            await rooms.raises.resume(tenant, owed)
        new = new_to(known_by(own), detections)
        note = noted(tenant, own, detections)
        if own is None or own.state != note.state:
            await rooms.store.put_rows(tenant, [note])
        head = await rooms.store.head(tenant)
        if head.seq < mark.seq:
            at = Evidence(head.seq, head.receipt_hash, "", head.ts_us)
            what = f"receipt {mark.seq} was there, and the chain ends at {head.seq}"
            self._broke(tenant, Break(head.seq + 1, ROLLED_BACK, what, at))
            mark = mark._replace(seq=head.seq)
        start = await start_before(
            rooms.store, tenant, mark.seq, engine.horizon_us, self._receipts_max
        )
        if start.is_cut:
            rooms.counts.rebuilds_cut += 1
            _log.warning(
                "detections begin with less than they look back: too much was recorded since",
                extra={"count": self._receipts_max, "detail": f"tenant {tenant}"},
            )
        rooms.counts.rebuilds += 1
        self._revision = detections.revision
        return Reading(rooms, self._broke, mark, engine, start.link, self._given_up_seq, new)
