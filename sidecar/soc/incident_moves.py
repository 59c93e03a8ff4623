"""Alerts and incidents one move on, and what the receipt of the move tells. Pure.

Knows: that a move leaves a note of who, when and why; that an incident's end is the end of all its
alerts; that an end commits to the receipts an alert rests on by then, for it takes no more.
Must not know: stores, clocks, who may move what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.soc.alert_states import AlertState, Move, alert_after, incident_after
from sidecar.soc.evidence import evidence_digest, read_evidence
from sidecar.soc.incident_entries import Told
from sidecar.soc.notes import NOTES_MAX, Note, read_notes, with_note
from storage.watch_rows import AlertRow, IncidentRow


class Moved(NamedTuple):
    """What is to be put, and what the receipt tells of it."""

    told: Told
    puts: tuple[AlertRow | IncidentRow, ...]


def alert_subject(alert_id: str) -> str:
    """An alert as records name it."""
    return f"alert:{alert_id}"


def incident_subject(incident_id: str) -> str:
    """An incident as records name it."""
    return f"incident:{incident_id}"


def has_room(notes: str) -> bool:
    """Whether people may add a note."""
    return len(read_notes(notes)) < NOTES_MAX


def moved_alert(row: AlertRow, move: Move, note: Note) -> AlertRow | None:
    """An alert one version on; None if the move cannot be made."""
    after = alert_after(row.state, move)
    if after is None:
        return None
    return row._replace(
        version=row.version + 1,
        state=after.value,
        notes=with_note(row.notes, note),
        changed_at_us=note.at_us,
    )


def moved_incident(row: IncidentRow, move: Move, note: Note) -> IncidentRow | None:
    """An incident one version on; None if the move cannot be made. Whoever closes one closes its
    alerts with it: see `incident_move`."""
    after = incident_after(row.state, move)
    if after is None:
        return None
    return row._replace(
        version=row.version + 1,
        state=after.value,
        notes=with_note(row.notes, note),
        changed_at_us=note.at_us,
    )


def alert_move(row: AlertRow, move: Move, note: Note) -> Moved | None:
    """A move of an alert by itself; None if it cannot be made."""
    put = moved_alert(row, move, note)
    if put is None:
        return None
    after: dict[str, object] = {"state": put.state}
    if put.state == AlertState.CLOSED:
        after["evidence_sha256"] = _rests_on(row)
    told = Told(
        note.actor,
        f"alert.{move}",
        alert_subject(row.alert_id),
        {"state": row.state},
        after,
        note.text,
    )
    return Moved(told, (put,))


def incident_move(
    row: IncidentRow, alerts: Sequence[AlertRow], move: Move, note: Note
) -> Moved | None:
    """A move of an incident with `alerts`, all that are its; None if it cannot be made."""
    put = moved_incident(row, move, note)
    if put is None:
        return None
    after: dict[str, object] = {"state": put.state, "alerts": put.alerts}
    closed: list[AlertRow] = []
    if move is Move.CLOSE:
        after["evidence_sha256"] = {one.alert_id: _rests_on(one) for one in alerts}
        with_it = note._replace(text=f"with incident {row.incident_id}")
        closed = [one for alert in alerts if (one := moved_alert(alert, move, with_it))]
    told = Told(
        note.actor,
        f"incident.{move}",
        incident_subject(row.incident_id),
        {"state": row.state},
        after,
        note.text,
    )
    return Moved(told, (put, *closed))


def _rests_on(row: AlertRow) -> str:
    return evidence_digest(read_evidence(row.evidence).every)
