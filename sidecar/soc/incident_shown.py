"""Alerts and incidents as people and sinks read them: JSON values made of rows. Pure.

Must not know: who reads, stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from sidecar.soc.evidence import read_evidence
from sidecar.soc.notes import read_notes
from storage.watch_rows import AlertRow, IncidentRow


def shown_alert(row: AlertRow) -> dict[str, Any]:
    """An alert, whole. Raises ValueError for a row whose texts are not as this room writes them."""
    resting = read_evidence(row.evidence)
    return {
        "alert_id": row.alert_id,
        "tenant": row.tenant_id,
        "state": row.state,
        "detection": row.detection,
        "severity": row.severity,
        "subject": orjson.loads(row.subject),
        "agent": row.agent_id,
        "run": row.run_id,
        "incident_id": row.incident_id,
        "reason": row.reason,
        "hits": row.hits,
        "evidence": {
            "raised": [one._asdict() for one in resting.raised],
            "joined": [one._asdict() for one in resting.joined],
            "left_out": resting.left_out,
        },
        "notes": [one._asdict() for one in read_notes(row.notes)],
        "first_us": row.first_us,
        "last_us": row.last_us,
        "quiet_until_us": row.quiet_until_us,
        "changed_at_us": row.changed_at_us,
    }


def shown_incident(row: IncidentRow, alerts: Sequence[AlertRow] | None = None) -> dict[str, Any]:
    """An incident; with its alerts whole if they are given. Raises as `shown_alert` does."""
    shown: dict[str, Any] = {
        "incident_id": row.incident_id,
        "tenant": row.tenant_id,
        "state": row.state,
        "severity": row.severity,
        "agent": row.agent_id,
        "run": row.run_id,
        "title": row.title,
        "alerts": row.alerts,
        "notes": [one._asdict() for one in read_notes(row.notes)],
        "opened_us": row.opened_us,
        "last_us": row.last_us,
        "changed_at_us": row.changed_at_us,
    }
    if alerts is not None:
        shown["alert_list"] = [shown_alert(one) for one in alerts]
    return shown
