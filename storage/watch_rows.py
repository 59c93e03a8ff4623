"""Rows of what is noticed in the record, what is done about it, and who is told.

Knows: their columns, in the order of every column list in sql/watch.sql. Must not know: what a
detection, a state or a sink means; that is the rooms' above.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: The version of the schema from which on there are such rows.
WATCH_SINCE: Final = 15


class WatchMark(NamedTuple):
    """`watch_mark`: a watcher of a tenant's record has looked at all receipts up to `seq`.

    `node_id` watches until `until_us`, by the store's clock; then another node may.
    """

    tenant_id: str
    watcher: str
    version: int
    node_id: str
    seq: int
    until_us: int
    changed_at_us: int


class WatchMemory(NamedTuple):
    """`watch_memory`: what a detection has to know of a subject from longer ago than it reads
    again after a start. `state` is JSON; from `until_us` on it says nothing, and the row may go.
    Others who keep something by name stand here too, with a `detection` that begins with ":"."""

    tenant_id: str
    detection: str
    subject: str
    version: int
    state: str
    until_us: int


class AlertRow(NamedTuple):
    """`alert`: something a detection noticed about a subject.

    `subject` is JSON of whom it counts apart (the detection's `by`); `agent_id`, `run_id` and
    `incident_id` are "" without. `evidence` is JSON of the calls and receipts that show it, `notes`
    of what people said and did. Hits until `quiet_until_us` join it and raise `hits`.
    """

    tenant_id: str
    alert_id: str
    version: int
    state: str
    detection: str
    severity: str
    subject: str
    agent_id: str
    run_id: str
    incident_id: str
    reason: str
    hits: int
    evidence: str
    notes: str
    first_us: int
    last_us: int
    quiet_until_us: int
    changed_at_us: int


class IncidentRow(NamedTuple):
    """`incident`: alerts that belong together (`AlertRow.incident_id`), how many, and what people
    did about them, as JSON in `notes`. `agent_id` and `run_id` are "" without."""

    tenant_id: str
    incident_id: str
    version: int
    state: str
    severity: str
    agent_id: str
    run_id: str
    title: str
    notes: str
    opened_us: int
    last_us: int
    changed_at_us: int
    alerts: int = 0


class ContainmentRow(NamedTuple):
    """`containment`: what live decisions are held to while it is `active`.

    `until_us` is 0 for one that ends only when it is undone; `before_state` is JSON of what undoing
    restores, "" if nothing has to be. Of one action and subject at most one is active.
    """

    tenant_id: str
    containment_id: str
    version: int
    state: str
    action: str
    subject: str
    reason: str
    actor: str
    incident_id: str
    before_state: str
    started_us: int
    until_us: int
    changed_at_us: int


class DeliveryRow(NamedTuple):
    """`delivery`: what is to be told to a sink, from `due_us` on.

    `severity` is its rank: of what there is no room for, the least severe is given up first. `body`
    is JSON and never changes; `attempts` have been made, the last of which ended as `said`. States:
    waiting, delivered, dead.
    """

    tenant_id: str
    delivery_id: str
    version: int
    state: str
    sink: str
    kind: str
    severity: int
    body: str
    attempts: int
    due_us: int
    said: str
    created_us: int
    changed_at_us: int


#: Rows that may be put without a receipt that commits to them: of alerts and incidents only what
#: later hits add to them.
UnrecordedRow = WatchMark | WatchMemory | DeliveryRow | AlertRow | IncidentRow


class Tally(NamedTuple):
    """How many alerts or incidents of a tenant are in a state, by severity."""

    state: str
    severity: str
    rows: int


class OpenDeliveries(NamedTuple):
    """How many of a tenant's deliveries to a sink are in a state (waiting or dead), since when."""

    tenant_id: str
    sink: str
    state: str
    deliveries: int
    oldest_us: int
