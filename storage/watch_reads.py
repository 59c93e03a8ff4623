"""Reads of what is noticed, contained and told: `storage.protocol.WatchReader`, over any driver.

Knows: which statement answers which question. Must not know: the engine, or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Protocol, Self

from storage.driver import Row, Value
from storage.known_heads import Seen
from storage.records import PAGE_BYTES, CallFactsRow, ReceiptRow, RecordedEvent
from storage.watch_rows import (
    AlertRow,
    ContainmentRow,
    DeliveryRow,
    IncidentRow,
    OpenDeliveries,
    Tally,
    WatchMark,
    WatchMemory,
)

_RECEIPT_COLUMNS = len(ReceiptRow._fields)


class Reads(Protocol):
    """The part of a driver that reading needs."""

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """See `Driver.fetch`."""
        ...

    async def close(self) -> None:
        """See `Driver.close`."""
        ...


class WatchReads:
    """See `WatchReader`."""

    def __init__(self, reads: Reads, sql: Mapping[str, str]) -> None:
        self._reads = reads
        self._sql = sql

    def through(self, led: Callable[[Reads], Reads]) -> Self:
        """The same, with each read led through another, which passes it on."""
        other = copy(self)
        other._reads = led(self._reads)
        return other

    async def heads_seen(self) -> dict[str, Seen]:
        """See `WatchReader.heads_seen`."""
        rows = await self._reads.fetch(self._sql["last_receipts"])
        return {row[0]: Seen(row[1], row[2]) for row in rows}

    async def recorded_after(
        self, tenant_id: str, after_seq: int, limit: int, bytes_max: int = PAGE_BYTES
    ) -> list[RecordedEvent]:
        """See `WatchReader.recorded_after`."""
        rows = await self._reads.fetch(
            self._sql["recorded_after"],
            tenant_id,
            after_seq,
            limit,
            tenant=tenant_id,
            bytes_max=bytes_max,
        )
        return [_recorded(row) for row in rows]

    async def watch_mark(self, tenant_id: str, watcher: str) -> WatchMark | None:
        """See `WatchReader.watch_mark`."""
        rows = await self._asked("watch_mark", tenant_id, watcher)
        return WatchMark._make(rows[0]) if rows else None

    async def watch_memories(
        self, tenant_id: str, after: tuple[str, str], limit: int
    ) -> list[WatchMemory]:
        """See `WatchReader.watch_memories`."""
        rows = await self._asked("watch_memories", tenant_id, *after, limit)
        return [WatchMemory._make(row) for row in rows]

    async def alert(self, tenant_id: str, alert_id: str) -> AlertRow | None:
        """See `WatchReader.alert`."""
        rows = await self._asked("alert", tenant_id, alert_id)
        return AlertRow._make(rows[0]) if rows else None

    async def alerts_quiet(self, tenant_id: str, at_us: int, limit: int) -> list[AlertRow]:
        """See `WatchReader.alerts_quiet`."""
        rows = await self._asked("alerts_quiet", tenant_id, at_us, limit)
        return [AlertRow._make(row) for row in rows]

    async def alerts_before(
        self,
        tenant_id: str,
        before_id: str,
        limit: int,
        *,
        state: str = "",
        severity: str = "",
        detection: str = "",
        agent: str = "",
    ) -> list[AlertRow]:
        """See `WatchReader.alerts_before`."""
        wanted = (before_id, state, severity, detection, agent, limit)
        return [
            AlertRow._make(row) for row in await self._asked("alerts_before", tenant_id, *wanted)
        ]

    async def alerts_of_incident(
        self, tenant_id: str, incident_id: str, after_id: str, limit: int
    ) -> list[AlertRow]:
        """See `WatchReader.alerts_of_incident`."""
        rows = await self._asked("alerts_of_incident", tenant_id, incident_id, after_id, limit)
        return [AlertRow._make(row) for row in rows]

    async def control_subjects(
        self, tenant_id: str, after_seq: int, until_seq: int
    ) -> list[tuple[int, str]]:
        """See `WatchReader.control_subjects`."""
        rows = await self._asked("control_subjects", tenant_id, after_seq, until_seq)
        return [(row[0], row[1]) for row in rows]

    async def tally_alerts(self, tenant_id: str) -> list[Tally]:
        """See `WatchReader.tally_alerts`."""
        return [Tally._make(row) for row in await self._asked("tally_alerts", tenant_id)]

    async def tally_incidents(self, tenant_id: str) -> list[Tally]:
        """See `WatchReader.tally_incidents`."""
        return [Tally._make(row) for row in await self._asked("tally_incidents", tenant_id)]

    async def incident(self, tenant_id: str, incident_id: str) -> IncidentRow | None:
        """See `WatchReader.incident`."""
        rows = await self._asked("incident", tenant_id, incident_id)
        return IncidentRow._make(rows[0]) if rows else None

    async def open_incidents(self, tenant_id: str, limit: int) -> list[IncidentRow]:
        """See `WatchReader.open_incidents`."""
        rows = await self._asked("open_incidents", tenant_id, limit)
        return [IncidentRow._make(row) for row in rows]

    async def incidents_before(
        self,
        tenant_id: str,
        before_id: str,
        limit: int,
        *,
        state: str = "",
        severity: str = "",
        agent: str = "",
    ) -> list[IncidentRow]:
        """See `WatchReader.incidents_before`."""
        wanted = (before_id, state, severity, agent, limit)
        rows = await self._asked("incidents_before", tenant_id, *wanted)
        return [IncidentRow._make(row) for row in rows]

    async def containment(self, tenant_id: str, containment_id: str) -> ContainmentRow | None:
        """See `WatchReader.containment`."""
        rows = await self._asked("containment", tenant_id, containment_id)
        return ContainmentRow._make(rows[0]) if rows else None

    async def active_containments(self, tenant_id: str) -> list[ContainmentRow]:
        """See `WatchReader.active_containments`."""
        rows = await self._asked("active_containments", tenant_id)
        return [ContainmentRow._make(row) for row in rows]

    async def containments_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", action: str = ""
    ) -> list[ContainmentRow]:
        """See `WatchReader.containments_before`."""
        wanted = (before_id, state, action, limit)
        rows = await self._asked("containments_before", tenant_id, *wanted)
        return [ContainmentRow._make(row) for row in rows]

    async def delivery(self, tenant_id: str, delivery_id: str) -> DeliveryRow | None:
        """See `WatchReader.delivery`."""
        rows = await self._asked("delivery", tenant_id, delivery_id)
        return DeliveryRow._make(rows[0]) if rows else None

    async def deliveries_due(
        self, tenant_id: str, sink: str, at_us: int, limit: int
    ) -> list[DeliveryRow]:
        """See `WatchReader.deliveries_due`."""
        rows = await self._asked("deliveries_due", tenant_id, sink, at_us, limit)
        return [DeliveryRow._make(row) for row in rows]

    async def sinks_due(self, at_us: int) -> list[tuple[str, str]]:
        """See `WatchReader.sinks_due`."""
        rows = await self._reads.fetch(self._sql["sinks_due"], at_us)
        return [(row[0], row[1]) for row in rows]

    async def deliveries_least(self, tenant_id: str, limit: int) -> list[DeliveryRow]:
        """See `WatchReader.deliveries_least`."""
        rows = await self._asked("deliveries_least", tenant_id, limit)
        return [DeliveryRow._make(row) for row in rows]

    async def deliveries_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", sink: str = ""
    ) -> list[DeliveryRow]:
        """See `WatchReader.deliveries_before`."""
        rows = await self._asked("deliveries_before", tenant_id, before_id, state, sink, limit)
        return [DeliveryRow._make(row) for row in rows]

    async def count_open_deliveries(self, tenant_id: str) -> list[OpenDeliveries]:
        """See `WatchReader.count_open_deliveries`."""
        rows = await self._asked("count_open_deliveries", tenant_id)
        return [OpenDeliveries._make(row) for row in rows]

    async def count_every_open_delivery(self) -> list[OpenDeliveries]:
        """See `WatchReader.count_every_open_delivery`."""
        rows = await self._reads.fetch(self._sql["count_every_open_delivery"])
        return [OpenDeliveries._make(row) for row in rows]

    async def _asked(self, name: str, tenant_id: str, *parameters: Value) -> list[Row]:
        return await self._reads.fetch(self._sql[name], tenant_id, *parameters, tenant=tenant_id)


def _recorded(row: Row) -> RecordedEvent:
    receipt = ReceiptRow._make(row[:_RECEIPT_COLUMNS])
    salt, arguments, facts = row[_RECEIPT_COLUMNS:]
    if salt is None:
        return RecordedEvent(receipt, None)
    return RecordedEvent(
        receipt, CallFactsRow(receipt.tenant_id, receipt.seq, salt, arguments, facts)
    )
