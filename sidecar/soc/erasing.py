"""What is put in place of what alerts quoted, wherever it was copied to. Pure.

Knows: that the text of an alert is filled from the one call that completed its hit, and goes when
what is kept of that call goes; that it stands again in the title of the incident the alert opened,
in notes of what a detection asked for (they may name a destination), in what is owed or contained
at its word, in changes of state, and in what sinks were told; that the sidecar's own texts go and
what people wrote stays; that names, numbers, states and evidence stay too.
Must not know: stores, whose calls they were, which receipts are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from sidecar.policy.contained import Action
from sidecar.soc.correlation import incident_id_of
from sidecar.soc.deliveries import about
from sidecar.soc.evidence import read_evidence
from sidecar.soc.incident_entries import RAISED
from sidecar.soc.incident_moves import incident_subject
from sidecar.soc.let_go import DETECTION
from sidecar.soc.model import ERASED, Evidence
from sidecar.soc.notes import notes_text, read_notes
from sidecar.soc.owed import OWED, is_open
from sidecar.soc.responding import containment_id_of
from storage.erasing import (
    ErasedAlert,
    ErasedChange,
    ErasedContainment,
    ErasedIncident,
    ErasedMemory,
)
from storage.standing import AuditRow
from storage.watch_rows import AlertRow, ContainmentRow, DeliveryRow, IncidentRow, WatchMemory

_CONTAINMENT: Final = "containment."
_INCIDENT: Final = "incident."


def completing(row: AlertRow) -> Evidence | None:
    """The receipt of the call that an alert quotes, if it quotes one; None without any. Raises
    ValueError for evidence that cannot be read."""
    raised = read_evidence(row.evidence).raised
    return raised[-1] if raised else None


@dataclass(slots=True)
class Quoting:
    """Everything that says what these alerts said: `alerts` by id, and `containments` by id that
    detections began for them. Fill `alerts`, then `containments`; then ask of the rest."""

    alerts: dict[str, AlertRow] = field(default_factory=dict)
    containments: set[str] = field(default_factory=set)

    @property
    def incident_ids(self) -> list[str]:
        """The incidents these alerts belong to, oldest first."""
        return sorted({row.incident_id for row in self.alerts.values()} - {""})

    def containment_ids(self) -> set[str]:
        """Under which ids what a detection asked for was begun, if it was."""
        return {containment_id_of(row, one) for row in self.alerts.values() for one in Action}

    def of_incident(self, row: IncidentRow) -> bool:
        """Whether an incident says what one of them said: in its title, or in a note. Raises
        ValueError for notes that cannot be read."""
        if self._opened(row):
            return True
        actors = self._actors(row.incident_id)
        return any(note.actor in actors for note in read_notes(row.notes))

    def erased_incident(self, row: IncidentRow) -> ErasedIncident | None:
        """The incident without it; None if nothing is left to erase. Raises ValueError for notes
        that cannot be read."""
        title = ERASED if self._opened(row) else row.title
        notes = _without(row.notes, self._actors(row.incident_id))
        if (title, notes) == (row.title, row.notes):
            return None
        return ErasedIncident(row.tenant_id, row.incident_id, row.version, title, notes)

    def tells(self, row: AuditRow) -> bool:
        """Whether a change of state, and what stands beside its receipt, say what one of them
        said. Raises ValueError for a change that cannot be read."""
        if row.action == RAISED:
            return any(
                one.get("alert_id") in self.alerts for one in _raised(_json(row.after_state))
            )
        if row.action.startswith(_CONTAINMENT):
            return _json(row.after_state).get("containment_id") in self.containments
        return row.action.startswith(_INCIDENT) and any(
            row.subject == incident_subject(one) and row.actor in self._actors(one)
            for one in self.incident_ids
        )

    def erased_change(self, row: AuditRow) -> ErasedChange | None:
        """A change that `tells`, without it; None if nothing is left to erase."""
        before, after, reason = row.before_state, row.after_state, row.reason
        if row.action == RAISED:
            said = _json(after)
            mine = [one for one in _raised(said) if one.get("alert_id") in self.alerts]
            if any(one.get("reason") != ERASED for one in mine):
                for one in mine:
                    one["reason"] = ERASED
                after = _text(said)
        elif row.action.startswith(_CONTAINMENT):
            before, after = _without_reason(before), _without_reason(after)
        if row.actor.startswith(DETECTION):
            reason = ERASED
        if (before, after, reason) == (row.before_state, row.after_state, row.reason):
            return None
        return ErasedChange(row.tenant_id, row.seq, before, after, reason)

    def erased_owed(self, row: WatchMemory) -> ErasedMemory | None:
        """What is owed for one of them, without it; None of any other memory, and if nothing is
        left to erase. Raises ValueError for what cannot be read."""
        if row.detection != OWED or not is_open(row) or row.subject not in self.alerts:
            return None
        state = _without_reason(row.state)
        if state == row.state:
            return None
        return ErasedMemory(row.tenant_id, row.detection, row.subject, row.version, state)

    def was_told(self, row: DeliveryRow, incidents: set[str]) -> bool:
        """Whether a sink was told what one of them said; `incidents` are those that say it."""
        member, name = about(row)
        return name in {
            "alert": self.alerts.keys(),
            "incident": incidents,
            "containment": self.containments,
        }.get(member, ())

    def _opened(self, row: IncidentRow) -> bool:
        return any(
            one.incident_id == row.incident_id
            and incident_id_of(one, row.opened_us) == row.incident_id
            for one in self.alerts.values()
        )

    def _actors(self, incident_id: str) -> set[str]:
        """Detections that wrote into the incident for one of them."""
        return {
            f"{DETECTION}{row.detection}"
            for row in self.alerts.values()
            if row.incident_id == incident_id
        }


def erased_alert(row: AlertRow) -> ErasedAlert | None:
    """The alert without it; None if nothing is left to erase. Raises ValueError for notes that
    cannot be read."""
    notes = _without(row.notes, {f"{DETECTION}{row.detection}"})
    if (row.reason, row.notes) == (ERASED, notes):
        return None
    return ErasedAlert(row.tenant_id, row.alert_id, row.version, ERASED, notes)


def erased_containment(row: ContainmentRow) -> ErasedContainment | None:
    """A containment that a detection began, without it; None if nothing is left to erase."""
    if row.reason == ERASED:
        return None
    return ErasedContainment(row.tenant_id, row.containment_id, row.version, ERASED)


def _without(notes: str, actors: set[str]) -> str:
    """Notes as the store keeps them, without what these said."""
    kept = read_notes(notes)
    left = tuple(one._replace(text=ERASED) if one.actor in actors else one for one in kept)
    return notes if left == kept else notes_text(left)


def _without_reason(text: str) -> str:
    """A JSON object without what its reason said."""
    said = _json(text)
    if said.get("reason", ERASED) == ERASED:
        return text
    return _text({**said, "reason": ERASED})


def _raised(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Alerts that a pass tells of."""
    alerts = said.get("alerts")
    return [one for one in alerts if isinstance(one, dict)] if isinstance(alerts, list) else []


def _json(text: str) -> dict[str, Any]:
    """A JSON object, empty where nothing stands. Raises ValueError for anything else."""
    said = orjson.loads(text or "{}")
    if not isinstance(said, dict):
        raise ValueError("it is not what a change of state says")
    return said


def _text(said: Mapping[str, Any]) -> str:
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
