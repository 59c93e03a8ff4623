"""A tenant's record, claimed: read in pages, shown to an engine, what comes of it committed.

Knows: that what stands before the mark raises nothing, for it was looked at before; that hits, what
detections remember, and the mark behind which they stand, are committed together or not at all, and
kept until they are; that whoever is overtaken ends.
Must not know: how a record is claimed, what a detection looks for, what becomes of a hit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.soc.chain_link import BROKEN, Break, Link
from sidecar.soc.events import event_of
from sidecar.soc.model import Hit
from sidecar.soc.watch_lease import LEASE_US, moved
from sidecar.soc.watch_standing import closed_by, closes
from sidecar.soc.watch_start import over_the_cut

if TYPE_CHECKING:
    from sidecar.soc.engine import Engine
    from sidecar.soc.watch_rooms import Broke, Put, Rooms
    from storage.known_heads import Seen
    from storage.records import ReceiptRow, RecordedEvent
    from storage.watch_rows import WatchMark

_log = logging.getLogger("aegis.soc")

#: Receipts that are read, and looked at, in one go.
PAGE_ROWS: Final = 256
#: The mark alone moves no more often than this.
MARK_EVERY_NS: Final = 2_000_000_000
#: While what is older is read again, the mark is renewed so often.
RENEW_NS: Final = LEASE_US * 1_000 // 3
#: Looks at a head whose receipts cannot be read, until that is taken for a break.
EMPTY_LOOKS_MAX: Final = 5
#: Tries to commit hits while people change the same alerts.
TRIES_MAX: Final = 5


class Overtaken(Exception):
    """Another node watches, or this one did already what it cannot know it did. With `stuck_seq`
    neither: hits up to there are not taken by a store that works."""

    def __init__(self, stuck_seq: int = 0) -> None:
        super().__init__()
        self.stuck_seq = stuck_seq


@dataclass(slots=True)
class _Pending:
    """What was noticed up to `seq` and is not committed yet."""

    hits: Sequence[Hit]
    memories: Sequence[Put]
    seq: int
    tries: int = 0


class Reading:
    """From `link` on; `mark` is this process's, `engine` knows nothing of what stands after `link`.
    Hits up to `given_up_seq` are dropped, and counted. `new` are detections that have looked at
    nothing yet: what lasts when they come to the mark they find behind it."""

    def __init__(
        self,
        rooms: Rooms,
        broke: Broke,
        mark: WatchMark,
        engine: Engine,
        link: Link,
        given_up_seq: int = 0,
        new: frozenset[str] = frozenset(),
    ) -> None:
        self.mark = mark
        self.engine = engine
        self.link = link
        self._rooms = rooms
        self._broke = broke
        self._pending: _Pending | None = None
        self._began_ns = self._marked_ns = rooms.clock.monotonic_ns()
        self._empty_looks = 0
        self._has_more = False
        #: A page was begun, and what came of it is not kept yet.
        self._is_amid = False
        self._given_up_seq = given_up_seq
        self._new, self._new_after_seq = new, mark.seq
        self._failed = self._forgotten = 0

    def is_idle(self, head: Seen) -> bool:
        """Whether a turn would find nothing to do."""
        return self._pending is None and head.seq <= self.link.seq <= self.mark.seq

    def lag_s(self) -> float:
        """Age of what was looked at last, while there is more. While what is older is read again,
        for how long that has been done."""
        clock = self._rooms.clock
        if self._is_rebuilding:
            return (clock.monotonic_ns() - self._began_ns) / 1e9
        if self._has_more or self._pending is not None:
            return max(0.0, (clock.now_us() - self.link.ts_us) / 1e6)
        return 0.0

    @property
    def _is_rebuilding(self) -> bool:
        return self.link.seq < self.mark.seq

    async def turn(self, head: Seen) -> bool:
        """Looks at some of what is new, up to `head`; whether there is more to do at once.

        Raises Overtaken, and a StoreError: then what was noticed is kept for the next turn.
        """
        if self._pending is not None:
            await self._commit(self._pending)
            return True
        if head.seq <= self.link.seq:
            self._has_more = False
            await self._keep_mark()
            return False
        tenant = self.mark.tenant_id
        rows = await self._rooms.store.recorded_after(tenant, self.link.seq, PAGE_ROWS)
        if not rows:
            self._miss(head)
            return False
        self._is_amid = True
        hits = await self._look_at(rows)
        self._is_amid = False
        self._has_more = head.seq > self.link.seq
        if hits:
            await self._commit(_Pending(hits, self.engine.changed_memories(), self.link.seq))
        else:
            await self._keep_mark()
        return self._has_more or self._pending is not None

    async def end(self) -> None:
        """Marks what was looked at, and lets others watch at once. Raises a StoreError. Amid
        something nothing is marked: the next start looks at it again."""
        if self._pending is not None or self._is_amid:
            return
        at_us = await self._rooms.store.clock_us()
        seq = max(self.mark.seq, self.link.seq)
        last = moved(self.mark, self._rooms.store.node_id, seq, at_us)._replace(until_us=at_us)
        rows: list[Put] = [last, *self.engine.changed_memories()]
        await self._rooms.store.put_rows(self.mark.tenant_id, rows)

    # -- looking -------------------------------------------------------------------------------

    async def _look_at(self, rows: Sequence[RecordedEvent]) -> list[Hit]:
        rooms, share, tenant = self._rooms, self._rooms.share, self.mark.tenant_id
        self._empty_looks = 0
        if rows[0].receipt.seq > self.link.seq + 1:
            await self._pass_the_cut()
        hits: list[Hit] = []
        behind_s = float("inf") if self._is_rebuilding else self.lag_s()
        share.begin()
        await share.rest(behind_s, len(rows))
        for recorded in rows:
            broken = self.link.follow(recorded.receipt)
            if broken is not None:
                self._broke(tenant, broken)
            if self._new and recorded.receipt.seq > self._new_after_seq:
                self.engine.find_again(self._new)
                self._new = frozenset()
            if closes(recorded.receipt):
                await self._begin_anew(recorded.receipt)
            event = event_of(recorded)
            if event is not None:
                rooms.counts.events += 1
                found = self.engine.see(event)
                if found and event.evidence.seq > self.mark.seq:
                    hits.extend(self._kept(found))
            if share.is_over():
                await share.rest(behind_s)
        share.end()
        self._count(len(rows))
        return hits

    async def _begin_anew(self, receipt: ReceiptRow) -> None:
        """What people have closed is counted from here on, also where this is read again."""
        for one in await closed_by(self._rooms.store, receipt):
            self.engine.begin_anew(one.detection, one.subject, one.found_us, receipt.ts_us)

    def _kept(self, found: Sequence[Hit]) -> Sequence[Hit]:
        """All of them, but for what was given up."""
        if found[-1].seq > self._given_up_seq:
            return found
        self._rooms.counts.dropped += len(found)
        _log.error(
            "what a detection found cannot be recorded",
            extra={"code": found[0].detection, "reason": found[0].reason},
        )
        return ()

    async def _pass_the_cut(self) -> None:
        """What was archived is not missing; what of it nobody had looked at is said."""
        self.link = await over_the_cut(self._rooms.store, self.mark.tenant_id, self.link)
        if self.link.seq > self.mark.seq:
            _log.warning(
                "receipts were archived before detections had looked at them",
                extra={"count": self.link.seq - self.mark.seq},
            )

    def _count(self, receipts: int) -> None:
        counts, engine = self._rooms.counts, self.engine
        counts.passes += 1
        counts.receipts += receipts
        failed, forgotten = engine.failed.total(), engine.dropped
        counts.condition_errors += failed - self._failed
        counts.forgotten += forgotten - self._forgotten
        self._failed, self._forgotten = failed, forgotten

    def _miss(self, head: Seen) -> None:
        """A head beyond the last receipt that can be read: soon there, or gone for good."""
        self._empty_looks += 1
        if self._empty_looks < EMPTY_LOOKS_MAX:
            return
        self._empty_looks = 0
        what = f"receipts {self.link.seq + 1} to {head.seq} are missing"
        found = Break(self.link.seq + 1, BROKEN, what, self.link.evidence)
        self._broke(self.mark.tenant_id, found)
        self.link = Link(head.seq, head.receipt_hash, self.link.ts_us)

    # -- committing ----------------------------------------------------------------------------

    async def _keep_mark(self) -> None:
        """Moves the mark alone, now and then; while reading up to it, only its lease."""
        since_ns = self._rooms.clock.monotonic_ns() - self._marked_ns
        if self.link.seq > self.mark.seq and since_ns >= MARK_EVERY_NS:
            await self._commit(_Pending((), self.engine.changed_memories(), self.link.seq))
        elif self.link.seq < self.mark.seq and since_ns >= RENEW_NS:
            await self._commit(_Pending((), (), self.mark.seq))

    async def _commit(self, pending: _Pending) -> None:
        """The hits with what comes of them, and the mark behind them; kept until it is done."""
        self._pending = pending
        rooms, mark = self._rooms, self.mark
        at_us = await rooms.store.clock_us()
        ahead = moved(mark, rooms.store.node_id, pending.seq, at_us)
        puts: list[Put] = [ahead, *pending.memories]
        if pending.hits:
            is_put = await rooms.raises(mark.tenant_id, pending.hits, puts)
        else:
            is_put = await rooms.store.put_rows(mark.tenant_id, puts)
        if is_put:
            rooms.counts.hits += len(pending.hits)
            self.mark, self._pending = ahead, None
            self._marked_ns = rooms.clock.monotonic_ns()
            return
        pending.tries += 1
        stands = await rooms.store.watch_mark(mark.tenant_id, mark.watcher)
        is_ours = stands is not None and stands.version == mark.version
        if not is_ours or not pending.hits:
            raise Overtaken
        if pending.tries >= TRIES_MAX:
            raise Overtaken(pending.seq)
