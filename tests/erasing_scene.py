"""What comes of an alert that quotes an argument, in a real store: every copy that there can be.

Each is made by the code that makes it at work: the alert and its incident, what sinks are told,
what is owed, a containment that a detection begins and a person ends, and notes.
"""

from __future__ import annotations

from typing import NamedTuple

from incident_scene import HOUR_US, Queue

from sidecar.clock import Clock
from sidecar.control.containment_news import ContainmentNews
from sidecar.identity.change_entry import Change, change_entry
from sidecar.identity.containment_words import shown_containment
from sidecar.ledger.commitment import NONCE_BYTES
from sidecar.ledger.fence import Fence
from sidecar.soc.alert_states import Move
from sidecar.soc.correlation import correlate, look_back_us
from sidecar.soc.deliveries import Told
from sidecar.soc.incident_entries import Stamp, raised_entry
from sidecar.soc.incidents import Incidents
from sidecar.soc.levels import Level
from sidecar.soc.model import Evidence, Hit, Response, Severity
from sidecar.soc.owed import owed_rows
from sidecar.soc.raising import deliveries_for
from sidecar.soc.responding import Responded, containment_id_of
from sidecar.soc.response_notes import ResponseNotes
from storage import SqlStore
from storage.records import AFTER_ALL_IDS, Recorded
from storage.watch_rows import AlertRow, ContainmentRow

SINKS = (Told("ops", Severity.INFO),)
#: What a person writes; it quotes nothing.
WRITTEN = "looked at by ana"


class Quoted(NamedTuple):
    """An alert that quotes a call, and its incident."""

    alert: AlertRow
    incident_id: str


def hit_of(
    evidence: Evidence, secret: str, agent: str, tenant: str, *before: Evidence, detection: str
) -> Hit:
    """What a detection says of the call that completed its hit."""
    return Hit(
        detection, Severity.HIGH, tenant, (agent,), agent, "", "mail/send", "mail",
        f"{agent} sent {secret}", (*before, evidence), HOUR_US,
        Response("block-destination", HOUR_US),
    )  # fmt: skip


async def intent_of(store: SqlStore, call_id: str, tenant: str = "acme") -> Evidence:
    """The receipt with which a call began, as an alert names it."""
    row = (await store.receipts_of_call(tenant, call_id))[0]
    return Evidence(row.seq, row.receipt_hash, call_id, row.ts_us)


async def quote(store: SqlStore, clock: Clock, *hits: Hit) -> list[Quoted]:
    """One pass of who watches: raises the hits' alerts, and puts their text wherever it gets."""
    tenant = hits[0].tenant
    quiet = await store.alerts_quiet(tenant, look_back_us(hits), 100)
    standing = await store.open_incidents(tenant, 100)
    noticed = correlate(tenant, hits, quiet, standing, Level.RESPOND, clock.now_us())
    told = deliveries_for(noticed, SINKS, Level.RESPOND, standing)
    stamp = Stamp(clock.new_id(), clock.random_bytes(NONCE_BYTES), clock.now_us())
    # What is owed is left owed, as a crash before the response leaves it.
    entry = raised_entry(tenant, noticed, stamp, (*told, *owed_rows(noticed.raised)))
    answer = await Queue(store).submit(entry)
    assert isinstance(answer, Recorded), answer
    incidents = Incidents(store, Queue(store), clock, Fence())
    for raised in noticed.raised:
        await _contain(store, clock, raised.alert)
        hosts = f"its call names several destinations: {raised.hit.reason}.example"
        notes = ResponseNotes(store, incidents, clock)
        await notes(raised, Responded(False, hosts), f"detection:{raised.hit.detection}")
    for one in noticed.opened_incidents:
        await incidents.move_incident(
            tenant, one.incident_id, Move.ACKNOWLEDGE, actor="person:ana", text=WRITTEN
        )
    return [Quoted(one.alert, one.alert.incident_id) for one in noticed.raised]


async def _contain(store: SqlStore, clock: Clock, alert: AlertRow) -> None:
    """A detection contains, and a person ends it."""
    row = ContainmentRow(
        alert.tenant_id, containment_id_of(alert, "block-tool"), 1, "active", "block-tool",
        f"{alert.agent_id}:mail/send", alert.reason, f"detection:{alert.detection}",
        alert.incident_id, "", 5, 9, clock.now_us(),
    )  # fmt: skip
    news = ContainmentNews(SINKS, lambda: None)
    ended = row._replace(version=2, state="undone")
    begun = (row, None, row.actor, row.reason)
    for now, before, actor, why in (begun, (ended, row, "person:ana", WRITTEN)):
        change = Change(
            alert.tenant_id, actor, "containment.begin" if before is None else "containment.undo",
            f"containment:{row.containment_id}",
            None if before is None else shown_containment(before), shown_containment(now), why,
            now, news.rows(now, actor, why),
        )  # fmt: skip
        answer = await Queue(store).submit(change_entry(clock, change))
        assert isinstance(answer, Recorded), answer


TABLES = (
    "receipts", "call_facts", "audit_event", "alert", "incident", "containment", "delivery",
    "watch_memory", "approval", "store_state", "run_head", "said_once",
)  # fmt: skip


async def tables_with(store: SqlStore, text: str, tenant: str = "acme") -> set[str]:
    """The tables in whose rows a text stands, in any column."""
    found = set()
    for table in TABLES:
        whose = "" if table == "store_state" else f" WHERE tenant_id = '{tenant}'"
        rows = await store._driver.fetch(f"SELECT * FROM {table}{whose}", tenant=tenant)
        if any(text in str(row) for row in rows):
            found.add(table)
    return found


async def delivery_kinds(store: SqlStore, tenant: str = "acme") -> list[str]:
    """Of what sinks were told, and will be."""
    rows = await store.deliveries_before(tenant, AFTER_ALL_IDS, 99)
    return sorted(row.kind for row in rows)
