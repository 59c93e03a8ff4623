"""What was done to an incident, as a store tells: rows of one moment, changes, and receipts.

Knows: that alerts are raised by passes whose audit rows name them; that a receipt may tell of what
no audit row does. Must not know: whether any of it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.soc.incident_entries import RAISED
from sidecar.soc.incident_moves import alert_subject, incident_subject
from sidecar.soc.incidents import TRIES_MAX, IncidentRefused, alerts_of, unknown_incident
from storage.listings import ChangeFilter, Listings

if TYPE_CHECKING:
    from storage.sql_store import SqlReader
    from storage.standing import AuditRow
    from storage.watch_rows import AlertRow, IncidentRow

#: Changes read at once, and passes that raised alerts that are looked at.
PAGE_ROWS: Final = 500
PASSES_MAX: Final = 50_000
#: Receipts that are looked at for what was done, in all and at once.
LOOKED_AT_MAX: Final = 1_000_000
LOOKED_AT_ONCE: Final = 5_000
#: How far apart the clocks of nodes that share a store may be, in microseconds: 1 min.
CLOCKS_APART_US: Final = 60_000_000


async def standing(
    reader: SqlReader, tenant: str, incident_id: str
) -> tuple[IncidentRow, list[AlertRow], list[AuditRow]]:
    """The incident, its alerts and what was done, as they stood at one moment."""
    row, alerts = await _rows(reader, tenant, incident_id)
    for _ in range(TRIES_MAX):
        changes = await _changes(reader, row, alerts)
        again = await _rows(reader, tenant, incident_id)
        if again == (row, alerts):
            return row, alerts, changes
        row, alerts = again
    raise IncidentRefused("stale", "the incident keeps changing", "Try again.")


async def _rows(
    reader: SqlReader, tenant: str, incident_id: str
) -> tuple[IncidentRow, list[AlertRow]]:
    row = await reader.incident(tenant, incident_id)
    if row is None:
        raise unknown_incident(incident_id)
    return row, await alerts_of(reader, tenant, incident_id)


async def _changes(
    reader: SqlReader, incident: IncidentRow, alerts: list[AlertRow]
) -> list[AuditRow]:
    """What was done to the incident and its alerts, and the passes that raised those, by seq."""
    tenant = incident.tenant_id
    found: dict[int, AuditRow] = {}
    subjects = [
        incident_subject(incident.incident_id),
        *(alert_subject(one.alert_id) for one in alerts),
    ]
    for subject in subjects:
        rows = await reader.audit_events(tenant, 2**53 - 1, PAGE_ROWS, subject=subject)
        found |= {one.seq: one for one in rows}
    names = [incident.incident_id, *(one.alert_id for one in alerts)]
    for one in await _passes(reader, incident, alerts):
        if any(name in one.after_state for name in names):
            found[one.seq] = one
    return [one for _, one in sorted(found.items())]


async def acts(
    reader: SqlReader,
    incident: IncidentRow,
    alerts: list[AlertRow],
    first: int,
    last: int,
    looked_at_max: int,
) -> tuple[list[int], int]:
    """Receipts that tell of something done to the incident or its alerts, whether or not an audit
    row does; and up to which receipt it was looked."""
    subjects = {
        incident_subject(incident.incident_id),
        *(alert_subject(one.alert_id) for one in alerts),
    }
    found: list[int] = []
    at, until = first - 1, min(last, first - 1 + looked_at_max)
    while at < until:
        end = min(at + LOOKED_AT_ONCE, until)
        rows = await reader.control_subjects(incident.tenant_id, at, end)
        found += [seq for seq, subject in rows if subject in subjects]
        at = end
    return found, until


async def _passes(
    reader: SqlReader, incident: IncidentRow, alerts: list[AlertRow]
) -> list[AuditRow]:
    """Passes that raised alerts while the incident grew."""
    wanted = ChangeFilter(
        action=RAISED,
        since_us=min((one.first_us for one in alerts), default=incident.opened_us)
        - CLOCKS_APART_US,
        until_us=incident.changed_at_us + CLOCKS_APART_US,
    )
    listings = Listings(reader)
    found: list[AuditRow] = []
    after, until = await listings.bounds(incident.tenant_id, wanted.since_us, wanted.until_us)
    before = until + 1
    while before > after + 1 and len(found) < PASSES_MAX:
        rows, before = await listings.changes(incident.tenant_id, wanted, before, PAGE_ROWS)
        found += rows
    return found
