"""From what is noticed, or done about it, to the entry that records it: receipt, facts, audit row.

Knows: that a receipt of kind `control` tells of raised alerts (`alerts.raised`) and of every move,
and commits under a salt to what it tells: of alerts their ids, whom and what they are about, and
the digest of the receipts they were raised for. Times, ids and salts are arguments: pure.
Must not know: queues, who may do what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.commitment import committed
from sidecar.ledger.receipt import blank_receipt
from sidecar.soc.evidence import evidence_digest, read_evidence
from storage.records import Entry
from storage.standing import AuditRow, VersionedRow

if TYPE_CHECKING:
    from sidecar.soc.correlation import Noticed
    from storage.watch_rows import AlertRow

RAISED: Final = "alerts.raised"
#: Who raises alerts.
DETECTIONS: Final = "sidecar:detections"


class Stamp(NamedTuple):
    """What a pure function may not draw itself."""

    event_id: str
    nonce: bytes
    at_us: int


class Told(NamedTuple):
    """What a control receipt of this room tells: `action` on `subject` by `actor`."""

    actor: str
    action: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    reason: str


def raised_entry(
    tenant: str, noticed: Noticed, stamp: Stamp, puts: Sequence[VersionedRow] = ()
) -> Entry:
    """The one entry of a pass that raised something: its alerts and incidents, and what else is to
    stand or fall with them (`puts`: deliveries, the mark)."""
    told = Told(
        DETECTIONS,
        RAISED,
        raised_subject(noticed),
        None,
        {
            "alerts": [raised_alert(row) for row in noticed.opened_alerts],
            "incidents": [row.incident_id for row in noticed.opened_incidents],
            "linked": {
                row.alert_id: row.incident_id
                for row in noticed.alerts
                if row.alert_id in set(noticed.linked)
            },
        },
        "",
    )
    rows = (*noticed.alerts, *noticed.incidents, *puts)
    return told_entry(tenant, told, stamp, rows)


def told_entry(
    tenant: str, told: Told, stamp: Stamp, puts: Sequence[VersionedRow], agent: str = ""
) -> Entry:
    """An entry with its receipt, the facts it commits to and the audit row, which say the same."""
    arguments = canonical_arguments(told_of(told))
    commitment, facts = committed(tenant, stamp.nonce, arguments)
    receipt = blank_receipt(
        tenant,
        "control",
        event_id=stamp.event_id,
        call_id=None,
        ts_us=stamp.at_us,
        agent_id=agent or None,
    )._replace(
        action=told.action,
        resource=told.subject,
        approver=told.actor,
        args_commitment=commitment,
    )
    audit = AuditRow(
        tenant,
        0,
        stamp.at_us,
        told.actor,
        told.action,
        told.subject,
        "" if told.before is None else _text(told.before),
        _text(told.after),
        told.reason,
    )
    return Entry(receipt, facts, puts=tuple(puts), audit=audit)


def told_of(told: Told) -> dict[str, Any]:
    """What the receipt commits to."""
    return {
        "actor": told.actor,
        "subject": told.subject,
        "before": None if told.before is None else dict(told.before),
        "after": dict(told.after),
        "reason": told.reason,
    }


def raised_alert(row: AlertRow) -> dict[str, Any]:
    """An alert as the receipt of its raising tells of it: what never changes of it, and to which
    incident it came then, if to any."""
    return {
        "alert_id": row.alert_id,
        "detection": row.detection,
        "severity": row.severity,
        "subject": orjson.loads(row.subject),
        "agent": row.agent_id,
        "run": row.run_id,
        "incident_id": row.incident_id,
        "reason": row.reason,
        "first_us": row.first_us,
        "evidence_sha256": evidence_digest(read_evidence(row.evidence).raised),
    }


def raised_subject(noticed: Noticed) -> str:
    """What the receipt is about, in one word: the incident or alert, if it is one."""
    incidents = {row.incident_id for row in noticed.alerts if row.incident_id}
    if len(incidents) == 1 and all(row.incident_id for row in noticed.opened_alerts):
        return f"incident:{incidents.pop()}"
    alerts = noticed.opened_alerts
    return f"alert:{alerts[0].alert_id}" if len(alerts) == 1 else "alerts"


def _text(shown: Mapping[str, Any]) -> str:
    return orjson.dumps(shown, option=orjson.OPT_SORT_KEYS).decode()
