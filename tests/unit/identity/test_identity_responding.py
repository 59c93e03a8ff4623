"""What detections ask for: done once for an alert, within bounds, for the hit's agent only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from identity_setup import MovedClock, Place, place

from sidecar.identity.agent_states import Move
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.run_text import KeptRun, run_text
from sidecar.model import TrustLevel
from sidecar.policy.contained import Action
from sidecar.policy.runs import RunState
from sidecar.soc import responding as responding_module
from sidecar.soc.model import Evidence, Hit, Response, Severity
from sidecar.soc.owed import owed_hit, owed_rows
from sidecar.soc.responding import (
    AUTOMATIC_MAX,
    AUTOMATIC_PER_HOUR_MAX,
    AUTOMATIC_US_MAX,
    Raised,
    Responded,
    Responding,
)
from sidecar.soc.watch_counts import WatchCounts
from storage.errors import StoreUnavailable
from storage.records import CallFactsRow, Entry, Recorded
from storage.watch_rows import AlertRow, IncidentRow

HOUR_US = 3_600_000_000
INCIDENT = IncidentRow(
    "acme", "i1", 1, "open", "high", "coder", "", "coder: 5 refusals", "[]", 5, 5, 5, 1
)


class Found(NamedTuple):
    """As a watcher raises it."""

    hit: Hit
    alert: AlertRow
    incident: IncidentRow | None


def found(
    action: str,
    *,
    alert: str = "a1",
    for_us: int = HOUR_US,
    seq: int = 1,
    detection: str = "deny-storm",
    **more: str,
) -> Found:
    values = {"agent": "coder", "run": "", "tool": "shop/get", "upstream": "shop", **more}
    hit = Hit(
        detection, Severity.HIGH, "acme", ("coder",), values["agent"], values["run"],
        values["tool"], values["upstream"], "coder: 5 refusals", (Evidence(seq, "h", "c1", 5),),
        HOUR_US, Response(action, for_us),
    )  # fmt: skip
    row = AlertRow(
        "acme", alert, 1, "open", detection, "high", '["coder"]', values["agent"],
        values["run"], "i1", hit.reason, 5, "[]", "[]", 5, 5, 9, 5,
    )  # fmt: skip
    return Found(hit, row, None)


class Desk:
    """Responds at a place, and keeps what was told."""

    def __init__(self, at: Place) -> None:
        self.at = at
        self.told: list[tuple[Responded, str]] = []
        self.counts = WatchCounts()
        self.responding = Responding(at.store, at.callers.containing, self._tell, self.counts)

    async def _tell(self, raised: Raised, responded: Responded, actor: str) -> None:
        self.told.append((responded, actor))

    async def respond(self, *raised: Found) -> list[Responded]:
        """What was told of these."""
        if await self.at.store.incident("acme", "i1") is None:
            await self.at.store.put_rows("acme", [INCIDENT])
        before = len(self.told)
        await self.responding(raised)
        return [responded for responded, _ in self.told[before:]]

    async def subjects(self) -> list[tuple[str, str]]:
        rows = await self.at.store.active_containments("acme")
        return [(row.action, row.subject) for row in rows]


@pytest.mark.parametrize(("action", "subject"), [
    ("freeze-agent", "coder"),
    ("quarantine-agent", "coder"),
    ("block-tool", "coder:shop/get"),
    ("force-approval", "coder"),
])  # fmt: skip
async def test_a_response_concerns_the_hits_agent_only_and_ends(
    tmp_path: Path, action: str, subject: str
) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        (said,) = await desk.respond(found(action))
        assert said.is_done and desk.told[0][1] == "detection:deny-storm"
        (row,) = await at.store.active_containments("acme")
        assert (row.action, row.subject, row.actor) == (action, subject, "detection:deny-storm")
        assert row.until_us - row.started_us == HOUR_US
        assert (row.incident_id, row.reason) == ("i1", "coder: 5 refusals")
        assert row.containment_id == said.containment_id
        tester = at.callers.registry.agent("acme", "tester")
        assert tester is not None and tester.contained is None and tester.state == "active"


async def test_an_alert_is_responded_to_once_also_after_an_undo(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        (said,) = await desk.respond(found("freeze-agent"))
        assert await desk.respond(found("freeze-agent")) == []
        assert (await at.store.head("acme")).seq == 1
        await at.callers.containing.undo("acme", said.containment_id, actor="ana")
        assert await desk.respond(found("freeze-agent")) == [], "what people undid stays undone"
        coder = at.callers.registry.agent("acme", "coder")
        assert coder is not None and coder.state == "active"
        (again,) = await desk.respond(found("freeze-agent", alert="a2", seq=3))
        assert again.is_done, "positive control: another alert, of what happened afterwards"


@pytest.mark.parametrize(("action", "how"), [
    ("freeze-agent", "undo"), ("freeze-agent", "unfreeze"), ("quarantine-agent", "restore"),
    ("block-tool", "undo"), ("force-approval", "undo"),
])  # fmt: skip
async def test_what_happened_before_people_let_go_contains_nobody_again(
    tmp_path: Path, action: str, how: str
) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        (first,) = await desk.respond(found(action))
        if how == "undo":
            await at.callers.containing.undo("acme", first.containment_id, actor="ana")
        else:
            await at.callers.changes.move("acme", "coder", Move(how), actor="ana")
        assert first.is_done and (await at.store.head("acme")).seq == 2
        (before,) = await desk.respond(found(action, alert="a2", seq=1))
        assert not before.is_done
        assert f"ana has ended {first.containment_id} since" in before.text
        (other,) = await desk.respond(found(action, alert="a3", seq=1, detection="canary"))
        assert other.is_done, "positive control: people have not seen what another noticed"
        await at.callers.containing.undo("acme", other.containment_id, actor="ana")
        (after,) = await desk.respond(found(action, alert="a4", seq=(await _head(at)) + 1))
        assert after.is_done, "positive control: it happened afterwards"


async def test_what_ended_by_its_time_speaks_for_nobody(tmp_path: Path) -> None:
    clock = MovedClock()
    async with place(tmp_path, clock=clock) as at:
        desk = Desk(at)
        await desk.respond(found("block-tool", for_us=1_000_000))
        (row,) = await at.store.active_containments("acme")
        clock.moved_s = 2
        assert await at.callers.containing.expire(row, "sweep")
        (again,) = await desk.respond(found("block-tool", alert="a2", seq=1))
        assert again.is_done


async def _head(at: Place) -> int:
    return (await at.store.head("acme")).seq


async def test_no_response_lasts_longer_than_a_day(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        await Desk(at).respond(found("freeze-agent", for_us=7 * 24 * HOUR_US))
        (row,) = await at.store.active_containments("acme")
        assert row.until_us - row.started_us == AUTOMATIC_US_MAX == 24 * HOUR_US


@pytest.mark.parametrize(("raised", "why"), [
    (found("block-upstream"), "never done by itself"),
    (found("revoke-agent"), "never done by itself"),
    (found("freeze-agent", agent=""), "no agent did this"),
    (found("freeze-agent", agent="nobody"), "unknown_agent"),
    (found("block-tool", tool=""), "no tool was called"),
    (found("block-destination", seq=9), "names no destination"),
    (found("block-run"), "no_run"),
])  # fmt: skip
async def test_what_is_not_done_by_itself_is_recommended_with_why(
    tmp_path: Path, raised: Found, why: str
) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        (said,) = await desk.respond(raised)
        assert not said.is_done and why in said.text, said.text
        assert raised.hit.respond is not None and raised.hit.respond.action in said.text
        assert (await at.store.head("acme")).seq == 0
        assert desk.counts.responses == {"done": 0, "recommended": 1}
        (control,) = await desk.respond(found("freeze-agent"))
        assert control.is_done, "positive control"


async def test_so_many_are_active_at_once_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responding_module, "AUTOMATIC_MAX", 2)
    async with place(tmp_path) as at:
        desk = Desk(at)
        tools = [found("block-tool", alert=f"a{n}", tool=f"shop/t{n}") for n in range(4)]
        said = await desk.respond(*tools)
        assert [one.is_done for one in said] == [True, True, False, False]
        assert "2 automatic containments are active" in said[2].text
        await at.callers.containing.undo("acme", said[0].containment_id, actor="ana")
        (again,) = await desk.respond(tools[3])
        assert again.is_done, "there is room again, and the alert was not responded to"


async def test_so_many_begin_in_an_hour_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responding_module, "AUTOMATIC_PER_HOUR_MAX", 2)
    clock = MovedClock()
    async with place(tmp_path, clock=clock) as at:
        desk = Desk(at)
        for n in range(2):
            (one,) = await desk.respond(found("block-tool", alert=f"a{n}", tool=f"shop/t{n}"))
            await at.callers.containing.undo("acme", one.containment_id, actor="ana")
        (over,) = await desk.respond(found("block-tool", alert="a8", tool="shop/t8"))
        assert not over.is_done and "within an hour" in over.text
        clock.moved_s = 3601
        (later,) = await desk.respond(found("block-tool", alert="a9", tool="shop/t9"))
        assert later.is_done


async def test_an_hour_that_cannot_be_counted_is_over_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responding_module, "LOOKED_AT_MAX", 1)
    async with place(tmp_path) as at:
        desk = Desk(at)
        (first,) = await desk.respond(found("block-tool"))
        (second,) = await desk.respond(found("block-tool", alert="a2", tool="shop/t2"))
        assert first.is_done and not second.is_done


async def test_a_destination_is_the_one_host_that_the_call_named(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        for seq, arguments in enumerate(
            ('{"url":"https://evil.example/a"}', '{"a":"http://b.example","c":"http://d.example"}'),
            start=1,
        ):
            facts = CallFactsRow("acme", 0, "ab", arguments, "{}")
            row = blank_receipt(
                "acme", "refusal", event_id=f"e{seq}", call_id=f"c{seq}", ts_us=1, agent_id="coder"
            )
            assert isinstance(await at.queue.submit(Entry(row, facts)), Recorded)
        (several,) = await desk.respond(found("block-destination", seq=2))
        assert "several destinations: b.example, d.example" in several.text
        (done,) = await desk.respond(found("block-destination", alert="a2"))
        assert done.is_done
        assert await desk.subjects() == [("block-destination", "coder:evil.example")]


@pytest.mark.parametrize("code", ["contained", "agent_frozen", "policy_deny"])
async def test_refusals_of_a_containment_lead_to_no_other(tmp_path: Path, code: str) -> None:
    async with place(tmp_path) as at:
        row = blank_receipt(
            "acme", "refusal", event_id="e1", call_id="c1", ts_us=1, agent_id="coder", outcome=code
        )
        assert isinstance(await at.queue.submit(Entry(row)), Recorded)
        (said,) = await Desk(at).respond(found("freeze-agent"))
        assert said.is_done == (code == "policy_deny"), "positive control"
        assert said.is_done or "own refusals" in said.text


@pytest.mark.parametrize(("codes", "is_done"), [
    (("policy_deny", "policy_deny", "policy_deny", "contained"), True),
    (("policy_deny", "contained", "policy_deny", "contained"), False),
    (("contained", "contained", "contained", "policy_deny"), True),
])  # fmt: skip
async def test_one_contained_call_at_the_right_moment_spares_nobody(
    tmp_path: Path, codes: tuple[str, ...], is_done: bool
) -> None:
    async with place(tmp_path) as at:
        for seq, code in enumerate(codes, 1):
            row = blank_receipt(
                "acme", "refusal", event_id=f"e{seq}", call_id=f"c{seq}", ts_us=1,
                agent_id="coder", outcome=code,
            )  # fmt: skip
            assert isinstance(await at.queue.submit(Entry(row)), Recorded)
        storm = found("freeze-agent", seq=len(codes))
        evidence = tuple(Evidence(seq, "h", f"c{seq}", 5) for seq in range(1, len(codes) + 1))
        (said,) = await Desk(at).respond(storm._replace(hit=replace(storm.hit, evidence=evidence)))
        assert said.is_done == is_done


async def test_who_came_last_is_not_contained_for_what_others_did(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        several = Response("freeze-agent", HOUR_US, of_several=True)
        shared = found("freeze-agent", detection="shared")
        shared = shared._replace(hit=replace(shared.hit, respond=several))
        (said,) = await desk.respond(shared)
        assert not said.is_done and "who came last" in said.text
        (owed,) = owed_rows([shared])
        assert owed_hit(owed).respond == several, "also by whoever does it after a crash"
        older = owed._replace(state=owed.state.replace(',"of_several":true', ""))
        assert owed_hit(older).respond == Response("freeze-agent", HOUR_US)


async def test_a_store_that_fails_leaves_a_recommendation_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        real = at.store.containment

        async def fails_once(tenant_id: str, containment_id: str) -> object:
            monkeypatch.setattr(at.store, "containment", real)
            raise StoreUnavailable("down")

        monkeypatch.setattr(at.store, "containment", fails_once)
        said = await desk.respond(found("freeze-agent"), found("block-tool", alert="a2"))
        assert [one.is_done for one in said] == [False, True]
        assert "store_unavailable" in said[0].text


async def test_a_hit_without_a_response_is_left_alone(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = Desk(at)
        one = found("freeze-agent")
        assert await desk.respond(one._replace(hit=replace(one.hit, respond=None))) == []
        assert desk.told == []


def test_the_bounds_are_those_that_readme_names() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    assert f"up to {AUTOMATIC_MAX} at once and {AUTOMATIC_PER_HOUR_MAX} an hour" in readme
    assert AUTOMATIC_US_MAX == 24 * HOUR_US and "for a day at most" in readme


def test_every_action_of_the_language_is_one_of_ours() -> None:
    language = {
        "freeze-agent", "block-tool", "block-upstream", "block-destination", "block-run",
        "force-approval",
    }  # fmt: skip
    assert language <= {action.value for action in Action}


async def test_a_run_that_is_only_named_does_not_take_the_block_of_another(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        now = await at.store.clock_us()

        def text(run_id: str) -> str:
            state = RunState(TrustLevel.UNTRUSTED_EXTERNAL, calls=1, started_us=now, run_id=run_id)
            return run_text(KeptRun(state, now))

        # `decoy` is a run the store keeps apart: the agent made one call of it at an upstream with
        # `run: trusted`. What set the detection off was done elsewhere, with `Aegis-Run: decoy`.
        for number, (key, run_id) in enumerate((("coder", ""), ("coder\ndecoy", "decoy")), 1):
            row = blank_receipt(
                "acme",
                "intent",
                event_id=f"e{number}",
                call_id=f"c{number}",
                ts_us=now,
                agent_id="coder",
            )._replace(run_id="decoy")
            facts = {"run": None} | ({"of_run": run_id} if run_id else {})
            beside = CallFactsRow("acme", 0, "ab", "{}", orjson.dumps(facts).decode())
            entry = Entry(row, beside, run_key=key, run_step=lambda _, r=run_id: text(r))
            assert isinstance(await at.queue.submit(entry), Recorded)
        desk = Desk(at)
        (of_decoy,) = await desk.respond(found("block-run", alert="a2", run="decoy", seq=2))
        assert of_decoy.is_done and await desk.subjects() == [("block-run", "coder/decoy")]
        await at.callers.containing.undo("acme", of_decoy.containment_id, actor="ana")
        (said,) = await desk.respond(found("block-run", run="decoy", seq=1))
        assert said.is_done
        assert await desk.subjects() == [("block-run", "coder")], "the run the call was of"
