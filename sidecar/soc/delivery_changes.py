"""What people do with deliveries, on record: have one tried again, have a sink tested.

Knows: that each is a change with its receipt, its audit event and its rows in one transaction; that
what belongs to another tenant answers as what does not exist.
Must not know: HTTP, the command line, how a sink is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from sidecar.ledger.audited import Deed, audited_entry
from sidecar.soc.attempts import again
from sidecar.soc.deliveries import Ids, Kind, State, Told, deliveries_of
from sidecar.soc.model import Severity
from storage.records import AFTER_ALL_IDS, Recorded
from storage.watch_rows import DeliveryRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence
    from storage.write_queue import WriteQueue

#: What one request has tried again at most.
AGAIN_MAX: Final = 200


class _Kind(NamedTuple):
    status: int
    title: str
    next_step: str


KINDS: Final = {
    "unknown_delivery": _Kind(
        404, "There is no such delivery", "`sinks dead` shows those there are."
    ),
    "unknown_sink": _Kind(404, "The configuration has no such sink", "`sinks list` names them."),
    "not_dead": _Kind(
        409, "It is not given up", "It is being delivered, or was; `sinks list` says what waits."
    ),
    "delivery_changed": _Kind(
        409, "Somebody else changed it meanwhile", "Look again, then try again."
    ),
}


class DeliveryRefused(Exception):
    """What cannot be done: `code` is stable, `status` an HTTP status."""

    def __init__(self, code: str) -> None:
        kind = KINDS[code]
        super().__init__(f"{code}: {kind.title}")
        self.code = code
        self.status, self.title, self.next_step = kind


class ReadsDeliveries(Protocol):
    """What is needed of a store."""

    async def delivery(self, tenant_id: str, delivery_id: str) -> DeliveryRow | None:
        """One of them."""
        ...

    async def deliveries_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", sink: str = ""
    ) -> list[DeliveryRow]:
        """Newest first."""
        ...


class DeliveryChanges:
    """One for a sidecar. Its changes raise StoreError, DeliveryRefused, and Refused while the store
    is fenced."""

    def __init__(
        self,
        store: ReadsDeliveries,
        queue: WriteQueue,
        clock: Clock,
        fence: Fence,
        sinks: Collection[str],
        ring: Callable[[str], None],
    ) -> None:
        """`ring` is called with the sink for which something became due."""
        self._store = store
        self._queue = queue
        self._clock = clock
        self._fence = fence
        self._sinks = frozenset(sinks)
        self._ring = ring

    async def again(self, tenant: str, delivery_id: str, actor: str, reason: str) -> DeliveryRow:
        """One that was given up is tried again; it as it is then."""
        row = await self._store.delivery(tenant, delivery_id)
        if row is None:
            raise DeliveryRefused("unknown_delivery")
        if row.state != State.DEAD:
            raise DeliveryRefused("not_dead")
        (after,) = await self._again(tenant, [row], f"delivery:{delivery_id}", actor, reason)
        return after

    async def every_again(self, tenant: str, sink: str, actor: str, reason: str) -> int:
        """All that a sink was given up for are tried again, at most AGAIN_MAX; how many."""
        rows = await self._store.deliveries_before(
            tenant, AFTER_ALL_IDS, AGAIN_MAX, state=State.DEAD.value, sink=sink
        )
        if not rows:
            if sink not in self._sinks:
                raise DeliveryRefused("unknown_sink")
            return 0
        return len(await self._again(tenant, rows, f"sink:{sink}", actor, reason))

    async def test(self, tenant: str, sink: str, actor: str) -> DeliveryRow:
        """A delivery that says nothing but who wanted it, whatever the sink's severity."""
        if sink not in self._sinks:
            raise DeliveryRefused("unknown_sink")
        ids = Ids(tenant, self._clock.new_id())
        told = [Told(sink, Severity.INFO)]
        rows = deliveries_of(
            Kind.TEST, {"actor": actor}, Severity.INFO, told, ids, self._clock.now_us()
        )
        await self._record(tenant, "sink.test", f"sink:{sink}", actor, "", rows)
        return rows[0]

    async def _again(
        self, tenant: str, rows: Sequence[DeliveryRow], subject: str, actor: str, reason: str
    ) -> Sequence[DeliveryRow]:
        now_us = self._clock.now_us()
        after = [again(row, now_us) for row in rows]
        await self._record(tenant, "delivery.retry", subject, actor, reason, after, before=rows)
        return after

    async def _record(
        self,
        tenant: str,
        action: str,
        subject: str,
        actor: str,
        reason: str,
        rows: Sequence[DeliveryRow],
        before: Sequence[DeliveryRow] = (),
    ) -> None:
        """`before` are the rows as they were; what is new has none."""
        if self._fence.is_up:
            raise self._fence.refused()
        deed = Deed(action, actor, subject, _shown(before), _shown(rows) or {}, reason)
        entry = audited_entry(self._clock, tenant, deed)
        entry.puts = rows
        if not isinstance(await self._queue.submit(entry), Recorded):
            raise DeliveryRefused("delivery_changed")
        self._ring(rows[0].sink)


def _shown(rows: Sequence[DeliveryRow]) -> dict[str, Any] | None:
    """Deliveries as an auditor reads them; None for none. What was told is not said again."""
    if not rows:
        return None
    return {
        "deliveries": {
            row.delivery_id: {"state": row.state, "attempts": row.attempts, "version": row.version}
            for row in rows
        }
    }
