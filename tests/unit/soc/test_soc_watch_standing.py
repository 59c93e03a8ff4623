"""What people close, and detections that are others, under a watcher: what goes on is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from watch_setup import STORM, Desk, desk, detections

from sidecar.soc.alert_states import Move
from sidecar.soc.incidents import Incidents
from sidecar.soc.watch_standing import KNOWN
from sidecar.soc.watched import Watched

#: A window that no test outlasts.
LONG = STORM.replace("60s", "6h")
RENAMED = LONG.replace("storm", "tempest")


async def begun(at: Desk) -> Watched:
    watched = at.watched()
    await watched.begin(at.head())
    return watched


async def told(at: Desk) -> list[tuple[str, str, int]]:
    return [(one.detection, one.state, one.hits) for one in await at.alerts()]


async def close(at: Desk, *, with_incident: bool) -> None:
    """As a person does."""
    incidents = Incidents(at.store, at.submitting, at.clock, at.fence)
    *_, alert = await at.alerts()
    if with_incident:
        await incidents.move_incident("acme", alert.incident_id, Move.CLOSE, actor="person:ana")
    else:
        await incidents.move_alert("acme", alert.alert_id, Move.CLOSE, actor="person:ana")


@pytest.mark.parametrize("with_incident", [False, True])
@pytest.mark.parametrize("restarts", ["never", "before", "after"])
async def test_what_goes_on_after_its_end_is_another_alert(
    tmp_path: Path, with_incident: bool, restarts: str
) -> None:
    async with desk(tmp_path, LONG) as at:
        watched = await begun(at)
        await at.refuse(20)
        await at.look(watched)
        assert await told(at) == [("storm", "open", 1)], "found once in the window"
        if restarts == "before":
            watched = at.watched()
        await close(at, with_incident=with_incident)
        await at.refuse(2)
        await at.look(watched)
        assert await told(at) == [("storm", "closed", 1)], "what was closed counts no more"
        if restarts == "after":
            watched = at.watched()
        at.clock.move(60)
        await at.refuse(20)
        await at.look(watched)
        assert await told(at) == [("storm", "closed", 1), ("storm", "open", 1)]
        seqs = [json.loads(one.evidence)["raised"] for one in await at.alerts()]
        assert max(one["seq"] for one in seqs[0]) < min(one["seq"] for one in seqs[1])
        await at.look(at.watched())
        assert len(await at.alerts()) == 2, "and reading it again comes to the same"


async def test_what_lasts_is_told_by_a_detection_that_is_new(tmp_path: Path) -> None:
    async with desk(tmp_path, LONG) as at:
        watched = await begun(at)
        await at.refuse(20)
        await at.look(watched)
        at.detections = detections(RENAMED)
        await at.look(watched)
        assert await told(at) == [("storm", "open", 1)], "what was before raises nothing itself"
        await at.refuse(1)
        await at.look(watched)
        assert await told(at) == [("storm", "open", 1), ("tempest", "open", 1)]
        await at.look(at.watched())
        at.detections = detections(RENAMED, STORM.replace("storm", "other"))
        await at.refuse(2)
        await at.look(watched)
        assert ("tempest", "open", 1) in await told(at), "it has looked before"


@pytest.mark.parametrize(
    "other", [RENAMED, LONG.replace("at_least: 3", "at_least: 21")], ids=["name", "number"]
)
async def test_so_it_is_of_one_that_a_start_brings(tmp_path: Path, other: str) -> None:
    async with desk(tmp_path, LONG.replace("at_least: 3", "at_least: 99")) as at:
        watched = await begun(at)
        await at.refuse(30)
        await at.look(watched)
        at.clock.move(3)
        await at.look(watched)  # the mark moves
        at.detections = detections(other)
        again = at.watched()
        await at.look(again)
        assert await told(at) == []
        await at.refuse(1)
        await at.look(again)
        assert [hits for _, _, hits in await told(at)] == [1]


async def test_a_first_start_tells_of_what_lasts_already(tmp_path: Path) -> None:
    async with desk(tmp_path, LONG) as at:
        await at.refuse(20)
        watched = await begun(at)
        await at.look(watched)
        assert await at.alerts() == []
        await at.refuse(1)
        await at.look(watched)
        assert await told(at) == [("storm", "open", 1)]


async def test_which_detections_look_is_noted_once_and_survives_what_is_no_note(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path, LONG) as at:

        async def rows() -> list[Any]:
            found = await at.store.watch_memories("acme", ("", ""), 10)
            return [one for one in found if one.detection == KNOWN]

        await at.refuse(1)
        await at.look(await begun(at))
        await at.look(at.watched())
        (row,) = await rows()
        assert row.version == 1 and list(json.loads(row.state)) == ["storm"]
        await at.store.forget_memories("acme", at.clock.now_us())
        assert await rows() == [row]
        for broken in ("{", "[]", '{"storm": 1}'):
            at.tamper("UPDATE watch_memory SET state = ? WHERE detection = ?", broken, KNOWN)
            await at.look(at.watched())
            assert json.loads((await rows())[0].state) == json.loads(row.state)
