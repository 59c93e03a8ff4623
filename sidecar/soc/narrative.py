"""An incident told in order of time, in sentences made of nothing but its rows. Pure.

Must not know: who reads, stores, anything that no row says.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sidecar.counted import counted
from sidecar.soc.evidence import read_evidence
from sidecar.soc.notes import read_notes
from storage.watch_rows import AlertRow, IncidentRow


def narrative(incident: IncidentRow, alerts: Sequence[AlertRow]) -> str:
    """What happened, a line each. Raises ValueError for rows that cannot be read."""
    told: list[tuple[int, str]] = []
    for alert in alerts:
        resting = read_evidence(alert.evidence)
        seqs = ", ".join(str(one.seq) for one in resting.raised)
        told.append(
            (
                alert.first_us,
                f"{alert.detection} ({alert.severity}) noticed: {alert.reason}. It rests on "
                f"receipts {seqs}.",
            )
        )
        if alert.hits > 1:
            told.append(
                (alert.last_us, f"{alert.detection} was seen {counted(alert.hits, 'time')} by now.")
            )
    for note in read_notes(incident.notes):
        told.append((note.at_us, f"{note.actor}: {note.did}. {note.text}".rstrip()))
    about = f"agent {incident.agent_id}" if incident.agent_id else "the tenant as a whole"
    first = f"Incident {incident.incident_id} about {about}: {incident.state}, {incident.severity}."
    lines = [f"{_time(at_us)} {text}" for at_us, text in sorted(told)]
    return "\n".join([first, *lines])


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
