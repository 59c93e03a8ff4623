"""A boot puts on record that it began and that it ends, and while nothing happens that it goes on.

Knows: that only chains that exist are told, each of a configured tenant; that the end is told once
nobody else writes, and must neither hold up a stop nor hide why it cannot be told; that behind a
fence nothing is written; that of several nodes on one store one heartbeat is enough, and two are no
harm. Nothing of it is on the way of a call.
Must not know: what the receipts say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.ledger.boot_entries import (
    NO_STOP,
    START,
    STOP,
    STOPPED,
    UNKNOWN,
    Before,
    Boot,
    alive,
    started,
    stopped,
)
from storage.errors import StoreError
from storage.records import Answer, Entry, HeadRow, OpenIntentRow, Recorded, Seal

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence
    from storage.known_heads import KnownHeads
    from storage.standing import AuditRow

#: Entries of one transaction, and open calls that are counted at the end.
BATCH: Final = 500
#: For the record of the end.
STOP_S: Final = 5.0
#: So often within an interval it is looked whether a chain is silent, and at least so often.
LOOKS_PER_HEARTBEAT: Final = 20
LOOK_MAX_S: Final = 60.0
#: A clock may be so much behind what is on record before it is told of: nodes of one store differ.
BEHIND_US: Final = 60_000_000
_NEWEST: Final = 2**62

_log = logging.getLogger("aegis.ledger")


class Store(Protocol):
    """What is needed of a store."""

    known: KnownHeads
    node_id: str

    async def tenants(self) -> list[str]:
        """Everyone with a chain."""
        ...

    async def head(self, tenant_id: str) -> HeadRow:
        """Where a tenant's chain ends."""
        ...

    async def audit_events(
        self, tenant_id: str, before_seq: int, limit: int, *, actor: str = "", action: str = "",
        subject: str = "",
    ) -> list[AuditRow]:  # fmt: skip
        """Changes of state, newest first."""
        ...

    async def open_intents(self, node_id: str, limit: int) -> list[OpenIntentRow]:
        """Calls of a node without an outcome."""
        ...

    async def record(self, entries: Sequence[Entry], seal: Seal) -> list[Answer]:
        """Makes entries durable, beside any queue."""
        ...


class Submits(Protocol):
    """The write queue."""

    async def submit(self, entry: Entry) -> Answer:
        """Waits until the entry is durable; raises a StoreError."""
        ...


class BootRecord:
    """Of one boot, for all tenants of a sidecar."""

    def __init__(
        self,
        tenants: Collection[str],
        store: Store,
        seal: Seal,
        clock: Clock,
        fence: Fence,
        *,
        boot_id: str,
        heartbeat_s: float,
    ) -> None:
        """A chain is silent for `heartbeat_s` at most; 0 is no heartbeat."""
        self._tenants = frozenset(tenants)
        self._store = store
        self._seal = seal
        self._clock = clock
        self._fence = fence
        self._heartbeat_s = heartbeat_s
        self._boot = Boot(store.node_id, boot_id, round(heartbeat_s * 1e6))
        #: Tenants of whose chain it was told that the clock is behind it.
        self._behind: set[str] = set()

    async def begin(self) -> None:
        """Tells each chain that this boot began, and how the one before ended. Before anything is
        served, and before there is a queue. Raises a StoreError: then nobody may be served."""
        entries = []
        for tenant in await self._chains():
            self._silent_us(await self._store.head(tenant))
            before = await self._before(tenant)
            if before.ended == NO_STOP:
                _log.warning(
                    "the boot before ended without a stop on record",
                    extra={"detail": f"tenant {tenant}, boot {before.boot}"},
                )
            entries.append(started(self._clock, tenant, self._boot, before))
        await self._record(entries)

    async def run(self, queue: Submits) -> None:
        """Ends the silence of each chain in time, until cancelled; a failure is tried again."""
        if not self._heartbeat_s:
            return
        look_s = min(LOOK_MAX_S, self._heartbeat_s / LOOKS_PER_HEARTBEAT)
        while True:
            await asyncio.sleep(look_s)
            try:
                await self.beat(queue, within_s=look_s)
            except StoreError as error:
                _log.warning("a heartbeat is not on record yet", extra={"cause": error.code})

    async def beat(self, queue: Submits, *, within_s: float) -> None:
        """Tells each chain that would otherwise be silent for too long before the next look, which
        is `within_s` away. Raises a StoreError."""
        for tenant in await self._chains():
            if self._fence.is_up:
                return
            silent_us = self._silent_us(await self._store.head(tenant))
            if silent_us + 2 * within_s * 1e6 >= self._boot.heartbeat_us:
                answer = await queue.submit(alive(self._clock, tenant, self._boot))
                self._check(tenant, answer)

    def _silent_us(self, head: HeadRow) -> int:
        """How long ago a chain's last receipt is. Below 0 the clock was set back, or another node's
        is ahead: receipts have the later time until it has come, which is told of once."""
        silent_us = self._clock.now_us() - head.ts_us
        if silent_us >= -BEHIND_US:
            self._behind.discard(head.tenant_id)
        elif head.tenant_id not in self._behind:
            self._behind.add(head.tenant_id)
            ahead = (
                f"tenant {head.tenant_id}: its last receipt is {-silent_us // 1_000_000} s ahead"
            )
            _log.warning(
                "the clock is behind what is on record: until then receipts have the time of the "
                "last one, and no silence is ended",
                extra={"detail": f"{ahead}; look whether this node's time is right"},
            )
        return silent_us

    async def end(self) -> None:
        """Tells each chain that this boot wrote to that it ends in order: once the queue has ended,
        and before the last head is signed. What cannot be told is logged."""
        if self._fence.is_up:
            _log.info("behind a fence nothing is put on record, nor that the sidecar stops")
            return
        try:
            async with asyncio.timeout(STOP_S):
                await self._end()
        except (StoreError, TimeoutError) as error:
            cause = getattr(error, "code", "") or f"not within {STOP_S:g} s"
            _log.error("that the sidecar stops in order is not on record", extra={"cause": cause})

    async def _end(self) -> None:
        known = self._store.known.all()
        written = sorted(one for one in self._tenants if one in known and known[one].seq)
        left = await self._store.open_intents(self._store.node_id, BATCH) if written else []
        counts = Counter(one.tenant_id for one in left)
        await self._record(
            [stopped(self._clock, tenant, self._boot, counts[tenant]) for tenant in written]
        )

    async def _chains(self) -> list[str]:
        """Of everyone who is configured and has a chain."""
        return [one for one in await self._store.tenants() if one in self._tenants]

    async def _before(self, tenant: str) -> Before:
        try:
            start, stop = await self._newest(tenant, START), await self._newest(tenant, STOP)
        except StoreError as error:  # a look that took too long keeps nobody from starting
            _log.warning(
                "how the boot before ended cannot be told",
                extra={"cause": error.code, "detail": f"tenant {tenant}"},
            )
            return Before("", UNKNOWN)
        if start is None and stop is None:
            return Before("", UNKNOWN)
        if start is not None and (stop is None or stop.seq < start.seq):
            return Before(_boot_of(start), NO_STOP)
        return Before(_boot_of(stop), STOPPED)

    async def _newest(self, tenant: str, action: str) -> AuditRow | None:
        rows = await self._store.audit_events(
            tenant, _NEWEST, 1, action=action, subject=self._store.node_id
        )
        return rows[0] if rows else None

    async def _record(self, entries: Sequence[Entry]) -> None:
        for at in range(0, len(entries), BATCH):
            some = entries[at : at + BATCH]
            answers = await self._store.record(some, self._seal)
            for entry, answer in zip(some, answers, strict=True):
                self._check(entry.receipt.tenant_id, answer)

    def _check(self, tenant: str, answer: Answer) -> None:
        # A chain that takes nothing has no calls either, and keeps nobody else from them.
        if not isinstance(answer, Recorded):
            _log.error(
                "that the sidecar runs cannot be recorded",
                extra={"cause": str(answer), "detail": f"tenant {tenant}"},
            )


def _boot_of(row: AuditRow | None) -> str:
    try:
        return str(json.loads(row.after_state)["boot"]) if row is not None else ""
    except (ValueError, TypeError, KeyError):
        return ""
