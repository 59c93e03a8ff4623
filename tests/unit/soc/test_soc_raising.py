"""Alerts, incidents, deliveries and the cursor stand or fall together; the level says how far."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from watch_setup import STORM, Desk, desk

from sidecar.soc.correlation import Noticed, Raised
from sidecar.soc.deliveries import Told
from sidecar.soc.levels import Level
from sidecar.soc.model import Response, Severity
from sidecar.soc.owed import OWED, is_open
from sidecar.soc.raising import Raiser, deliveries_for
from sidecar.soc.watch_rooms import Rooms
from sidecar.soc.watched import Watched
from storage.watch_rows import IncidentRow

ASKING = STORM + "respond: {action: freeze-agent, for: 1h}\n"
SINKS = (Told("ops", Severity.LOW), Told("pager", Severity.CRITICAL))


class Responding:
    """Who carries out what detections ask for."""

    def __init__(self) -> None:
        self.asked: list[Raised] = []
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1

    async def respond(self, raised: object) -> None:
        self.asked += raised  # type: ignore[arg-type]


def watched_by(at: Desk, level: Level, responding: Responding) -> Watched:
    """A process that watches at a level, as after a start."""
    rooms = at.rooms()
    raiser = Raiser(
        at.store,
        at.submitting,
        at.clock,
        at.counts,
        level=level,
        sinks=SINKS,
        told=responding.ring,
        responds=responding.respond,
    )
    made = Rooms(at.store, at.clock, rooms.share, at.counts, rooms.detections, raiser)
    return Watched("acme", made, lambda *_: None)


async def stormed(at: Desk, level: Level, responding: Responding) -> None:
    watched = watched_by(at, level, responding)
    await watched.begin(at.head())
    await at.refuse(3)
    await at.look(watched)
    at.clock.move(60)
    await at.refuse(3)
    await at.look(watched)


@pytest.mark.parametrize(
    ("level", "kinds", "asked"),
    [
        (Level.LOG, [], 0),
        (Level.NOTIFY, ["alert.opened", "incident.opened"], 0),
        (Level.RECOMMEND, ["alert.opened", "incident.opened"], 0),
        (Level.RESPOND, ["alert.opened", "incident.opened"], 1),
    ],
)
async def test_each_level_does_more_than_the_one_before(
    tmp_path: Path, level: Level, kinds: list[str], asked: int
) -> None:
    async with desk(tmp_path, ASKING) as at:
        responding = Responding()
        await stormed(at, level, responding)
        rows = await at.store.deliveries_before("acme", "z", 9)
        assert sorted(row.kind for row in rows) == kinds
        assert {row.sink for row in rows} == ({"ops"} if kinds else set())
        assert responding.rung == bool(kinds)
        assert len(responding.asked) == asked
        told = [json.loads(row.body)["alert"] for row in rows if row.kind == "alert.opened"]
        assert ["recommended" in one for one in told] == [level >= Level.RECOMMEND] * len(told)
        (alert,) = await at.alerts()
        assert alert.hits == 2, "the second storm joined: nobody was told again"


async def test_a_response_that_fails_raises_nothing_a_second_time(tmp_path: Path) -> None:
    class Failing(Responding):
        async def respond(self, raised: object) -> None:
            raise RuntimeError("a fault")

    async with desk(tmp_path, ASKING) as at:
        await stormed(at, Level.RESPOND, Failing())
        (alert,) = await at.alerts()
        assert (alert.hits, at.counts.overtaken) == (2, 0)
        assert at.counts.errors == {"response_failed": 1}


class Dying(Responding):
    """A process that ends while it responds."""

    async def respond(self, raised: object) -> None:
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("later_s", "level", "asked"),
    [
        (600, Level.RESPOND, 1),
        (3_601, Level.RESPOND, 0),  # it would have ended by itself
        (600, Level.RECOMMEND, 0),
    ],
)
async def test_who_watches_next_does_what_is_owed_about_an_alert_and_only_once(
    tmp_path: Path, later_s: float, level: Level, asked: int
) -> None:
    async with desk(tmp_path, ASKING) as at:
        with pytest.raises(asyncio.CancelledError):
            await stormed(at, Level.RESPOND, Dying())
        (alert,) = await at.alerts()
        at.clock.move(later_s)
        next_one = Responding()
        await at.look(watched_by(at, level, next_one))
        assert [(one.alert.alert_id, one.hit.agent) for one in next_one.asked] == [
            (alert.alert_id, "coder")
        ] * asked
        for one in next_one.asked:
            assert one.hit.respond == Response("freeze-agent", 3_600_000_000)
            assert (one.hit.seq, one.hit.reason) == (3, alert.reason)
        (owed,) = await at.store.watch_memories("acme", (OWED, ""), 9)
        assert is_open(owed) == (level is not Level.RESPOND), "kept for who may do it"
        after = Responding()
        await at.look(watched_by(at, Level.RESPOND, after))
        assert len(after.asked) == (level is not Level.RESPOND)
        at.clock.move(3_600)
        assert await at.store.forget_memories("acme", at.clock.now_us()) == 1


async def test_what_is_owed_and_cannot_be_read_is_said_and_keeps_nobody(tmp_path: Path) -> None:
    async with desk(tmp_path, ASKING) as at:
        with pytest.raises(asyncio.CancelledError):
            await stormed(at, Level.RESPOND, Dying())
        at.tamper("UPDATE watch_memory SET state = '[]'")
        next_one = Responding()
        await at.look(watched_by(at, Level.RESPOND, next_one))
        assert (next_one.asked, at.counts.errors) == ([], {"response_failed": 1})


async def test_of_an_entry_that_cannot_be_recorded_nothing_stands(tmp_path: Path) -> None:
    async with desk(tmp_path, ASKING) as at:
        responding = Responding()
        at.submitting.fails = 1
        with pytest.raises(Exception, match="reached"):
            await stormed(at, Level.RESPOND, responding)
        assert await at.alerts() == []
        assert await at.store.deliveries_before("acme", "z", 9) == []
        assert await at.store.open_incidents("acme", 9) == []
        assert (responding.rung, responding.asked) == (0, [])


def test_an_incident_that_comes_to_matter_more_is_told_of_again() -> None:
    before = IncidentRow(
        "acme", "i1", 1, "open", "high", "coder", "", "storm", "[]", 1, 1, 5, 5
    )  # fmt: skip
    raised = before._replace(version=2, severity="critical", last_us=9)
    joined = before._replace(version=2, incident_id="i2")
    known = [before, before._replace(incident_id="i2")]
    noticed = Noticed(incidents=(raised, joined))
    rows = deliveries_for(noticed, SINKS, Level.NOTIFY, known)
    assert [(row.kind, row.sink) for row in rows] == [
        ("incident.raised", "ops"), ("incident.raised", "pager"),
    ]  # fmt: skip
    assert json.loads(rows[0].body)["incident"]["severity"] == "critical"
    assert deliveries_for(noticed, SINKS, Level.NOTIFY, known) == rows, "made again, the same"
    assert deliveries_for(noticed, (), Level.NOTIFY, known) == ()
