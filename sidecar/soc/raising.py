"""Makes what was noticed durable: alerts, incidents, who is to be told, the cursor, in one entry.

Knows: that hits which only join an alert need no receipt; that whoever is told, and what is to be
done, stands in rows of the same transaction; that nobody is told below `Level.NOTIFY`, and nothing
is done about it below `Level.RESPOND`.
Must not know: how hits come about, how sinks are reached, what a response does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.ledger.commitment import NONCE_BYTES
from sidecar.soc.correlation import (
    OPEN_INCIDENTS_MAX,
    QUIET_ALERTS_MAX,
    Noticed,
    Raised,
    correlate,
    look_back_us,
    response_text,
)
from sidecar.soc.deliveries import Ids, Kind, Told, deliveries_of
from sidecar.soc.incident_entries import Stamp, raised_entry
from sidecar.soc.incident_shown import shown_alert, shown_incident
from sidecar.soc.levels import Level
from sidecar.soc.model import SEVERITIES, Hit
from sidecar.soc.owed import is_over, owed_hit, owed_rows, settled
from storage.errors import StoreError
from storage.record_batch import CHANGED
from storage.records import Answer, Entry, Recorded, Unrecordable

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.soc.watch_counts import WatchCounts
    from sidecar.soc.watch_rooms import Put
    from storage.protocol import WatchStore
    from storage.watch_rows import DeliveryRow, IncidentRow, WatchMemory

_log = logging.getLogger("aegis.soc")

Responds = Callable[[Sequence[Raised]], Awaitable[None]]

#: Under this code a response that failed is counted.
RESPONSE_FAILED: Final = "response_failed"
#: Alerts of one pass that are said in the log each; the log itself keeps back more.
LOGGED_MAX: Final = 20


class Submits(Protocol):
    """The write queue."""

    async def submit(self, entry: Entry) -> Answer:
        """Waits until the entry is durable; raises a StoreError."""
        ...


def nobody() -> None:
    """Where no task delivers."""


class Raiser:
    """See `watch_rooms.Raises`. `sinks` are the configuration's; `told` is rung when there is
    something to deliver, and `responds` carries out what detections ask for."""

    def __init__(
        self,
        store: WatchStore,
        queue: Submits,
        clock: Clock,
        counts: WatchCounts,
        *,
        level: Level,
        sinks: Iterable[Told] = (),
        told: Callable[[], None] = nobody,
        responds: Responds | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._counts = counts
        self._level = level
        self._sinks = tuple(sinks) if level >= Level.NOTIFY else ()
        self._told = told
        self._responds = responds if level >= Level.RESPOND else None

    async def __call__(self, tenant: str, hits: Sequence[Hit], puts: Sequence[Put]) -> bool:
        """See `watch_rooms.Raises`."""
        store, clock = self._store, self._clock
        quiet = await store.alerts_quiet(tenant, look_back_us(hits), QUIET_ALERTS_MAX)
        incidents = await store.open_incidents(tenant, OPEN_INCIDENTS_MAX)
        noticed = correlate(tenant, hits, quiet, incidents, self._level, clock.now_us())
        owed = owed_rows(noticed.raised) if self._responds is not None else ()
        if not noticed.has_news:
            is_put = await store.put_rows(tenant, [*noticed.alerts, *noticed.incidents, *puts])
        else:
            deliveries = deliveries_for(noticed, self._sinks, self._level, incidents)
            stamp = Stamp(clock.new_id(), clock.random_bytes(NONCE_BYTES), clock.now_us())
            entry = raised_entry(tenant, noticed, stamp, (*deliveries, *owed, *puts))
            is_put = _is_recorded(await self._queue.submit(entry))
            if is_put and deliveries:
                self._told()
        if is_put:
            self._conclude(noticed)
            await self._respond([one for one in noticed.raised if one.hit.respond], owed)
        return is_put

    async def resume(self, tenant: str, owed: Sequence[WatchMemory]) -> None:
        """See `watch_rooms.Raises`."""
        if self._responds is None:
            return
        at_us = await self._store.clock_us()
        raised: list[Raised] = []
        for row in owed:
            alert = await self._store.alert(tenant, row.subject)
            try:
                hit = owed_hit(row)
            except ValueError:
                self._counts.failed(RESPONSE_FAILED)
                _log.exception("what is to be done about an alert cannot be read")
                continue
            if alert is None or is_over(row, at_us):
                _log.warning(
                    "what a detection asked for would be over by now",
                    extra={"code": hit.detection, "detail": f"alert {row.subject} of {tenant}"},
                )
            else:
                raised.append(Raised(hit, alert, None))
        await self._respond(raised, owed)

    def _conclude(self, noticed: Noticed) -> None:
        self._counts.joined += noticed.joined
        self._counts.withheld += noticed.withheld
        for alert in noticed.opened_alerts:
            self._counts.raised[alert.severity] += 1
        for alert in noticed.opened_alerts[:LOGGED_MAX]:
            _log.warning(
                "an alert was raised",
                extra={
                    "code": alert.detection,
                    "reason": alert.reason,
                    "detail": f"{alert.severity} alert {alert.alert_id} of {alert.tenant_id}",
                },
            )

    async def _respond(self, raised: Sequence[Raised], owed: Sequence[WatchMemory]) -> None:
        """The alerts are durable: whatever fails from here on, they are not raised again. Who is
        cut off here owes it still."""
        if self._responds is None or not owed:
            return
        try:
            await self._responds(raised)
        except Exception:
            self._counts.failed(RESPONSE_FAILED)
            _log.exception("what detections ask for could not be done")
        try:
            await self._store.put_rows(owed[0].tenant_id, [settled(row) for row in owed])
        except StoreError as error:
            # The next start does it again, and finds it done.
            self._counts.failed(error.code)


def _is_recorded(answer: Answer) -> bool:
    if isinstance(answer, Unrecordable) and answer.reason != CHANGED:
        _log.error("alerts cannot be recorded", extra={"cause": answer.reason})
    return isinstance(answer, Recorded)


def deliveries_for(
    noticed: Noticed, sinks: Sequence[Told], level: Level, before: Sequence[IncidentRow]
) -> tuple[DeliveryRow, ...]:
    """Who is to be told of what is new: of each alert, of each incident, and of each that matters
    more than it did `before`."""
    rows: list[DeliveryRow] = []
    for one in noticed.raised if sinks else ():
        alert, body = one.alert, shown_alert(one.alert)
        if level >= Level.RECOMMEND and one.hit.respond is not None:
            body["recommended"] = response_text(one.hit.respond)
        rows += deliveries_of(
            Kind.ALERT_OPENED,
            body,
            SEVERITIES[alert.severity],
            sinks,
            Ids(alert.tenant_id, alert.alert_id),
            alert.first_us,
        )
    for incident in noticed.opened_incidents if sinks else ():
        rows += deliveries_of(
            Kind.INCIDENT_OPENED,
            shown_incident(incident),
            SEVERITIES[incident.severity],
            sinks,
            Ids(incident.tenant_id, incident.incident_id),
            incident.opened_us,
        )
    known = {one.incident_id: SEVERITIES[one.severity] for one in before}
    for incident in noticed.incidents if sinks else ():
        severity = SEVERITIES[incident.severity]
        if severity > known.get(incident.incident_id, severity):
            rows += deliveries_of(
                Kind.INCIDENT_RAISED,
                shown_incident(incident),
                severity,
                sinks,
                Ids(incident.tenant_id, incident.incident_id, incident.version),
                incident.last_us,
            )
    return tuple(rows)
