"""Every move of every state, and the notes they leave."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from sidecar.soc.alert_states import AlertState, IncidentState, Move
from sidecar.soc.incident_moves import alert_move, has_room, incident_move
from sidecar.soc.incidents import IncidentRefused, _require_note
from sidecar.soc.notes import NOTE_CHARS_MAX, NOTES_MAX, Note, notes_text, read_notes
from storage.watch_rows import AlertRow, IncidentRow

ALERT = AlertRow(
    "acme", "a1", 3, "open", "deny-storm", "high", '["coder"]', "coder", "r1", "i1", "why", 5,
    '{"raised":[],"joined":[],"left_out":0}', "[]", 1, 5, 9, 5,
)  # fmt: skip
INCIDENT = IncidentRow("acme", "i1", 2, "open", "high", "coder", "r1", "storm", "[]", 1, 5, 5, 2)
NOTE = Note(9, "person:ana", "x", "because")

#: From a state by a move to the state after it; what is not here cannot be done.
ALERTS = {
    ("open", "acknowledge"): "acknowledged",
    ("open", "close"): "closed",
    ("acknowledged", "close"): "closed",
}
INCIDENTS = {
    ("open", "acknowledge"): "acknowledged",
    ("open", "contain"): "contained",
    ("open", "close"): "closed",
    ("open", "note"): "open",
    ("acknowledged", "contain"): "contained",
    ("acknowledged", "close"): "closed",
    ("acknowledged", "note"): "acknowledged",
    ("contained", "close"): "closed",
    ("contained", "note"): "contained",
    ("closed", "note"): "closed",
}


@pytest.mark.parametrize(("state", "move"), list(itertools.product(AlertState, Move)))
def test_an_alert_takes_these_moves_and_no_others(state: AlertState, move: Move) -> None:
    moved = alert_move(ALERT._replace(state=state.value), move, NOTE._replace(did=move.value))
    expected = ALERTS.get((state.value, move.value))
    if expected is None:
        assert moved is None
        return
    assert moved is not None
    (put,) = moved.puts
    assert (put.state, put.version, put.changed_at_us) == (expected, 4, 9)
    assert read_notes(put.notes) == (Note(9, "person:ana", move.value, "because"),)
    assert (moved.told.action, moved.told.subject) == (f"alert.{move.value}", "alert:a1")
    assert (moved.told.before, moved.told.after["state"]) == ({"state": state.value}, expected)
    assert ("evidence_sha256" in moved.told.after) == (expected == "closed")


@pytest.mark.parametrize(("state", "move"), list(itertools.product(IncidentState, Move)))
def test_an_incident_takes_these_moves_and_no_others(state: IncidentState, move: Move) -> None:
    alerts = [ALERT, ALERT._replace(alert_id="a2", state="closed")]
    row = INCIDENT._replace(state=state.value)
    moved = incident_move(row, alerts, move, NOTE._replace(did=move.value))
    expected = INCIDENTS.get((state.value, move.value))
    if expected is None:
        assert moved is None
        return
    assert moved is not None
    put, *with_it = moved.puts
    assert (put.state, put.version) == (expected, 3)
    assert moved.told.action == f"incident.{move.value}" and moved.told.reason == "because"
    closed: list[Any] = [(one.alert_id, one.state) for one in with_it]  # type: ignore[union-attr]
    if move is not Move.CLOSE:
        assert closed == []
        return
    assert closed == [("a1", "closed")], "what is closed already is left as it is"
    assert read_notes(with_it[0].notes)[0].text == "with incident i1"
    assert set(moved.told.after["evidence_sha256"]) == {"a1", "a2"}


def test_nothing_leads_out_of_an_end() -> None:
    for move in Move:
        moved = incident_move(INCIDENT._replace(state="closed"), [], move, NOTE)
        assert moved is None or moved.puts[0].state == "closed"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * (NOTE_CHARS_MAX + 1)])
def test_a_note_is_text_that_any_store_keeps(text: str) -> None:
    with pytest.raises(IncidentRefused) as refused:
        _require_note(Move.CLOSE, text)
    assert refused.value.code == "bad_note" and refused.value.next_step
    _require_note(Move.CLOSE, "x" * NOTE_CHARS_MAX)
    with pytest.raises(IncidentRefused):
        _require_note(Move.NOTE, "  ")


def test_notes_have_an_end() -> None:
    notes = notes_text((NOTE,) * NOTES_MAX)
    assert not has_room(notes) and has_room(notes_text((NOTE,) * (NOTES_MAX - 1)))
    with pytest.raises(ValueError, match="these are no notes"):
        read_notes(json.dumps([{"actor": "x"}]))
