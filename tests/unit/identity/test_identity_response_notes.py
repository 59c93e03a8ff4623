"""What became of a response stands on the alert and its incident."""

from __future__ import annotations

from pathlib import Path

import pytest
from identity_setup import Place, place

from sidecar.identity.containment_words import read_wanted
from sidecar.soc import responding as responding_module
from sidecar.soc.alert_states import Move
from sidecar.soc.correlation import Raised
from sidecar.soc.incidents import Incidents
from sidecar.soc.model import Evidence, Hit, Response, Severity
from sidecar.soc.notes import read_notes
from sidecar.soc.responding import Responding
from sidecar.soc.response_notes import ContainmentNotes, ResponseNotes
from sidecar.soc.watch_counts import WatchCounts
from storage.watch_rows import AlertRow, IncidentRow

HOUR_US = 3_600_000_000
INCIDENT = IncidentRow(
    "acme", "i1", 1, "open", "high", "coder", "", "coder: 5 refusals", "[]", 5, 5, 5, 1
)


def raised(alert_id: str, incident_id: str = "i1") -> Raised:
    hit = Hit(
        "storm", Severity.HIGH, "acme", ("coder",), "coder", "", f"shop/{alert_id}", "shop",
        "coder: 5 refusals", (Evidence(1, "h", "c1", 5),), HOUR_US, Response("block-tool", HOUR_US),
    )  # fmt: skip
    alert = AlertRow(
        "acme", alert_id, 1, "open", "storm", "high", '["coder"]', "coder", "", incident_id,
        hit.reason, 5, "[]", "[]", 5, 5, 9, 5,
    )  # fmt: skip
    return Raised(hit, alert, INCIDENT if incident_id else None)


async def responded(at: Place, *several: Raised) -> None:
    rows = [one.alert for one in several]
    if await at.store.incident("acme", "i1") is None:
        assert await at.store.put_rows("acme", [INCIDENT])
    assert await at.store.put_rows("acme", rows)
    incidents = Incidents(at.store, at.queue, at.clock, at.fence)
    notes = ResponseNotes(at.store, incidents, at.clock)
    await Responding(at.store, at.callers.containing, notes, WatchCounts())(several)


async def notes_of(at: Place, alert_id: str) -> list[tuple[str, str, str]]:
    row = await at.store.alert("acme", alert_id)
    assert row is not None
    return [(note.actor, note.did, note.text) for note in read_notes(row.notes)]


async def test_an_incident_is_contained_by_what_was_done_for_it(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        await responded(at, raised("a1"))
        (contained,) = await at.store.active_containments("acme")
        text = f"block-tool coder:shop/a1: containment {contained.containment_id}"
        assert await notes_of(at, "a1") == [("detection:storm", "respond", text)]
        incident = await at.store.incident("acme", "i1")
        assert incident is not None and incident.state == "contained"
        (note,) = read_notes(incident.notes)
        assert (note.actor, note.did, note.text) == ("detection:storm", "contain", text)
        assert contained.incident_id == "i1"


async def test_what_is_over_the_bound_is_recommended_on_the_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responding_module, "AUTOMATIC_MAX", 1)
    async with place(tmp_path) as at:
        await responded(at, raised("a1"), raised("a2"))
        incident = await at.store.incident("acme", "i1")
        assert incident is not None
        done, wanted = read_notes(incident.notes)
        assert (done.did, wanted.did) == ("contain", "note")
        assert "block-tool for 3600 s was not done: 1 automatic" in wanted.text
        ((_, did, text),) = await notes_of(at, "a2")
        assert (did, text) == ("recommend", wanted.text)


async def test_an_alert_without_an_incident_has_the_note_alone(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        await responded(at, raised("a1", ""))
        assert [did for _, did, _ in await notes_of(at, "a1")] == ["respond"]
        assert await at.store.incident("acme", "i1") == INCIDENT


async def test_a_note_that_cannot_be_written_undoes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as at:
        one = raised("a1")
        unreadable = one._replace(alert=one.alert._replace(notes="no notes"))
        await responded(at, unreadable)
        assert len(await at.store.active_containments("acme")) == 1
        incident = await at.store.incident("acme", "i1")
        assert incident is not None and incident.state == "contained", "the other one is written"
        assert "could not be noted" in caplog.text


async def test_what_people_contain_for_an_incident_stands_on_it(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        assert await at.store.put_rows("acme", [INCIDENT])
        incidents = Incidents(at.store, at.queue, at.clock, at.fence)
        containing = at.callers.containing
        containing.notes = ContainmentNotes(incidents)

        async def contains(tool: str, incident: str = "i1") -> str:
            wanted = read_wanted(
                "acme", "block-tool", tool, actor="person:ana", incident_id=incident
            )
            return (await containing.contain(wanted)).remark

        await contains("shop/t0", "")
        assert "does not tell" not in await contains("shop/t1")
        await contains("shop/t2")
        await incidents.move_incident("acme", "i1", Move.CLOSE, actor="person:bob")
        assert "does not tell" not in await contains("shop/t3")
        incident = await at.store.incident("acme", "i1")
        assert incident is not None and incident.state == "closed"
        notes = read_notes(incident.notes)
        said = [(note.actor, note.did, note.text.partition(":")[0]) for note in notes]
        assert said == [
            ("person:ana", "contain", "block-tool shop/t1"),
            ("person:ana", "note", "block-tool shop/t2"),
            ("person:bob", "close", ""),
            ("person:ana", "note", "block-tool shop/t3"),
        ]
        for note in notes[:2]:
            named = note.text.rpartition(" ")[2]
            assert await at.store.containment("acme", named) is not None


async def test_an_incident_that_takes_no_note_is_remarked_and_keeps_nothing_free(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as at:
        assert await at.store.put_rows("acme", [INCIDENT._replace(notes="no notes")])
        at.callers.containing.notes = ContainmentNotes(
            Incidents(at.store, at.queue, at.clock, at.fence)
        )
        wanted = read_wanted("acme", "block-tool", "shop/t1", actor="ana", incident_id="i1")
        done = await at.callers.containing.contain(wanted)
        assert done.row.state == "active" and "does not tell of it" in done.remark
