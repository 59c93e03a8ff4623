"""Containments: begun, undone and ended on record; what is restored, what two people do at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from identity_setup import MovedClock, Place, SteadyMovedClock, place

from sidecar.control.containment_news import ContainmentNews
from sidecar.identity import containment_plans as plans_module
from sidecar.identity.agent_states import Move
from sidecar.identity.changes import ChangeRefused
from sidecar.identity.containing import Contains
from sidecar.identity.containment_subjects import read_subject, subject_of, text_of
from sidecar.identity.containment_sweep import swept
from sidecar.identity.containment_words import Wanted, read_wanted
from sidecar.identity.tokens import sha256_of
from sidecar.ledger.fence import Standing
from sidecar.model import Principal
from sidecar.policy.contained import Action
from sidecar.soc.deliveries import Told
from sidecar.soc.model import Severity
from storage.errors import StoreUnavailable
from storage.records import AFTER_ALL_IDS

WHO = "socket:root"
HOUR_US = 3600 * 1_000_000


def wanted(action: str, subject: str, agent: str = "", **more: Any) -> Wanted:
    return read_wanted("acme", action, subject, agent, actor=WHO, **more)


async def refused(change: Any) -> str:
    with pytest.raises(ChangeRefused) as caught:
        await change
    assert caught.value.title
    return caught.value.code


def coder(at: Place) -> Principal:
    found = at.callers.registry.agent("acme", "coder")
    assert found is not None
    return found


def held(at: Place, agent: str = "coder") -> list[str]:
    found = at.callers.registry.agent("acme", agent)
    assert found is not None
    return [] if found.contained is None else [one.what for one in found.contained.blocks]


async def freeze(at: Place, **more: Any) -> Contains:
    return await at.callers.containing.contain(wanted("freeze-agent", "coder", **more))


@pytest.mark.parametrize(("action", "text", "agent", "kept"), [
    ("freeze-agent", "coder", "", "coder"),
    ("block-tool", "mail/send", "", "mail/send"),
    ("block-tool", "api/GET /a/{id}", "coder", "coder:api/GET /a/{id}"),
    ("block-tool", "mail/mcp:resources/read", "", "mail/mcp:resources/read"),
    ("block-upstream", "mail", "", "mail"),
    ("block-upstream", "mail", "coder", "coder:mail"),
    ("block-destination", "EVIL.example", "", "evil.example"),
    ("block-destination", "10.0.0.1", "coder", "coder:10.0.0.1"),
    ("block-destination", "[2001:DB8::1]", "", "[2001:db8::1]"),
    ("block-destination", "[2001:db8::1]", "coder", "coder:[2001:db8::1]"),
    ("block-run", "coder", "", "coder"),
    ("block-run", "coder/r:1/2", "", "coder/r:1/2"),
    ("force-approval", "coder", "", "coder"),
    ("force-approval", "mail/send", "", "mail/send"),
    ("force-approval", "mail/send", "coder", "coder:mail/send"),
])  # fmt: skip
def test_a_subject_is_kept_as_text_and_read_back(
    action: str, text: str, agent: str, kept: str
) -> None:
    meant = Action(action)
    subject = subject_of(meant, text, agent)
    assert text_of(meant, subject) == kept
    assert read_subject(meant, kept) == subject


@pytest.mark.parametrize(("action", "text", "agent"), [
    ("freeze-agent", "coder/r1", ""),
    ("freeze-agent", "Coder", ""),
    ("freeze-agent", "coder", "coder"),
    ("block-tool", "mail", ""),
    ("block-tool", "/send", ""),
    ("block-tool", "mail/", ""),
    ("block-tool", "a:mail/send", ""),
    ("block-tool", "mail/send", "no agent"),
    ("block-tool", "mail/\x00send", ""),
    ("block-tool", "mail/" + "x" * 600, ""),
    ("block-upstream", "mail/send", ""),
    ("block-destination", "https://evil.example", ""),
    ("block-destination", "evil.example/a", ""),
    ("block-destination", "evil.example:443", ""),
    ("block-destination", "", ""),
    ("block-run", "coder/", ""),
    ("force-approval", "coder", "coder"),
    ("melt-down", "coder", ""),
])  # fmt: skip
def test_what_is_no_subject_is_refused(action: str, text: str, agent: str) -> None:
    with pytest.raises(ChangeRefused) as caught:
        wanted(action, text, agent)
    assert caught.value.code in ("bad_subject", "bad_action")


def test_the_bound_is_the_one_that_readme_names() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    assert f"up to {plans_module.CONTAINMENTS_MAX} active ones" in readme


async def test_g10_a_containment_is_one_receipt_with_actor_and_reason(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        done = await freeze(at, reason="it mails customers")
        (receipt,) = await at.store.receipts("acme", 0, 10)
        facts = await at.store.call_facts("acme", receipt.seq)
        (event,) = await at.store.audit_events("acme", 2**62, 9, subject="agent:coder")
    assert done.seq == receipt.seq == event.seq
    assert (receipt.kind, receipt.action, receipt.approver, receipt.agent_id) == (
        "control", "containment.begin", WHO, "coder",
    )  # fmt: skip
    assert facts is not None and "it mails customers" in str(facts.arguments)
    assert json.loads(event.after_state)["action"] == "freeze-agent"
    assert (event.actor, event.reason) == (WHO, "it mails customers")


async def test_undo_restores_an_agent_as_it_stood(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        containing = at.callers.containing
        frozen = await freeze(at)
        assert coder(at).state == frozen.agent_state == "frozen"
        quarantined = await containing.contain(wanted("quarantine-agent", "coder"))
        assert coder(at).state == "quarantined"
        done = await containing.undo("acme", quarantined.row.containment_id, actor="ana")
        assert (done.row.state, done.agent_state) == ("undone", "frozen"), "not active"
        again = containing.undo("acme", quarantined.row.containment_id, actor="ana")
        assert await refused(again) == "wrong_state"
        # By then the agent is another than the freeze had left: it is not touched.
        left = await containing.undo("acme", frozen.row.containment_id, actor="ana")
        assert (left.row.state, left.agent_state) == ("undone", "frozen")


async def test_undo_leaves_an_agent_whom_somebody_else_has_changed(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        frozen = await freeze(at)
        await at.callers.changes.move("acme", "coder", Move.UNFREEZE, actor="ana")
        await at.callers.changes.move("acme", "coder", Move.FREEZE, actor="ana")
        done = await at.callers.containing.undo("acme", frozen.row.containment_id, actor=WHO)
        assert (done.row.state, done.agent_state) == ("undone", "frozen"), "ana's freeze stays"


async def test_a_new_token_meanwhile_keeps_no_agent_stopped(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        changes, containing = at.callers.changes, at.callers.containing
        for is_moved in (False, True):
            stopped = await containing.contain(wanted("freeze-agent", "tester"))
            made = [await changes.rotate_token("acme", "tester", actor="ana") for _ in range(2)]
            if is_moved:
                await changes.move("acme", "tester", Move.QUARANTINE, actor="ana")
            done = await containing.undo("acme", stopped.row.containment_id, actor=WHO)
            assert done.agent_state == ("quarantined" if is_moved else "active")
            tester = at.callers.registry.by_token(sha256_of(made[1].token or ""))
            assert tester is not None and tester.state == done.agent_state, "the last token counts"


async def test_who_was_let_go_by_other_means_is_contained_anew(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = await freeze(at)
        assert await refused(freeze(at)) == "already_contained", "positive control"
        await at.callers.changes.move("acme", "coder", Move.UNFREEZE, actor="ana")
        again = await freeze(at)
        assert coder(at).state == "frozen"
        (active,) = await at.store.active_containments("acme")
        assert active == again.row
        before = await at.store.containment("acme", first.row.containment_id)
        assert before is not None and before.state == "undone"
        done = await at.callers.containing.undo("acme", again.row.containment_id, actor=WHO)
        assert done.agent_state == "active"


async def test_a_revocation_is_never_undone_and_takes_no_place(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        containing = at.callers.containing
        done = await containing.contain(wanted("revoke-agent", "coder"))
        assert (done.row.state, done.agent_state) == ("final", "revoked")
        assert await at.store.active_containments("acme") == []
        undone = containing.undo("acme", done.row.containment_id, actor=WHO)
        assert await refused(undone) == "wrong_state"
        again = containing.contain(wanted("freeze-agent", "coder"))
        assert await refused(again) == "wrong_state", "nothing is revived"
        assert await refused(
            containing.contain(wanted("revoke-agent", "tester", for_s=60))
        ) == "bad_expiry"  # fmt: skip


async def test_what_cannot_be_contained_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        containing = at.callers.containing
        for code, asked in {
            "unknown_agent": wanted("block-tool", "shop/get", "nobody"),
            "unknown_upstream": wanted("block-upstream", "nowhere"),
            "no_run": wanted("block-run", "coder"),
            "unknown_incident": wanted("block-tool", "shop/get", incident_id="i9"),
            "bad_expiry": wanted("block-tool", "shop/get", for_s=400 * 86400),
            "bad_reason": wanted("block-tool", "shop/get", reason="x" * 1025),
            "unknown_tenant": wanted("block-tool", "shop/get")._replace(tenant="nobody"),
        }.items():
            assert await refused(containing.contain(asked)) == code
        at.fence.stand(Standing("f", "x", "", 0))
        assert await refused(freeze(at)) == "store_fenced"
        at.fence.lift()
        assert await refused(containing.undo("acme", "k9", actor=WHO)) == "unknown_containment"
        assert (await at.store.head("acme")).seq == 0
        await freeze(at)
        assert (await at.store.head("acme")).seq == 1, "positive control"


async def test_blocks_concern_all_agents_or_the_named_one(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        containing = at.callers.containing
        assert coder(at).contained is None
        mine = await containing.contain(wanted("block-tool", "shop/get", "coder"))
        assert (held(at), held(at, "tester")) == (["shop/get"], [])
        await containing.contain(wanted("block-upstream", "shop"))
        assert (held(at), held(at, "tester")) == (["shop/get", "shop"], ["shop"])
        rival = at.callers.registry.agent("rival", "coder")
        assert rival is not None and rival.contained is None, "another tenant's"
        await containing.undo("acme", mine.row.containment_id, actor=WHO)
        assert held(at) == ["shop"]
        assert at.callers.containments_by_action()["block-upstream"] == 1


async def test_a_destination_knows_the_upstreams_that_lead_there(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        await at.callers.containing.contain(wanted("block-destination", "internal"))
        contained = coder(at).contained
        assert contained is not None and contained.blocks[0].upstreams == {"shop"}
        await at.callers.containing.contain(wanted("block-destination", "ternal"))
        contained = coder(at).contained
        assert contained is not None and contained.blocks[1].upstreams == frozenset()


async def test_of_two_operators_who_contain_the_same_one_does(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        tries = [at.callers.containing.contain(wanted("block-tool", "shop/get")) for _ in range(6)]
        came = await asyncio.gather(*tries, return_exceptions=True)
        codes = [one.code for one in came if isinstance(one, ChangeRefused)]
        assert codes == ["already_contained"] * 5
        undoing = [
            at.callers.containing.undo("acme", one.row.containment_id, actor=WHO)
            for one in came
            if isinstance(one, Contains)
            for _ in range(4)
        ]
        ends = await asyncio.gather(*undoing, return_exceptions=True)
        assert sum(isinstance(one, Contains) for one in ends) == 1
        assert (await at.store.head("acme")).seq == 2, "one begin, one end"


async def test_operators_at_once_do_not_overshoot_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans_module, "CONTAINMENTS_MAX", 3)
    async with place(tmp_path) as at:
        tries = [
            at.callers.containing.contain(wanted("block-tool", f"shop/t{n}")) for n in range(9)
        ]
        came = await asyncio.gather(*tries, return_exceptions=True)
        codes = {one.code for one in came if isinstance(one, ChangeRefused)}
        assert len(await at.store.active_containments("acme")) == 3
        assert codes <= {"too_many", "stale"} and "too_many" in codes
        revoked = await at.callers.containing.contain(wanted("revoke-agent", "coder"))
        assert revoked.row.state == "final", "ending an agent is never kept out"


async def test_what_is_over_by_its_time_is_ended_on_record(tmp_path: Path) -> None:
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        containing = at.callers.containing
        await freeze(at, for_s=3600)
        await containing.contain(wanted("block-tool", "shop/get", for_s=7200))
        block = barring(at, clock)
        assert await swept(containing, clock) is not None and coder(at).state == "frozen"
        clock.moved_s = 3599
        await swept(containing, clock)
        assert coder(at).state == "frozen"
        clock.moved_s = 3601
        left_s = await swept(containing, clock)
        assert coder(at).state == "active" and left_s is not None
        assert barring(at, clock) == block
        clock.moved_s = 7201
        assert barring(at, clock) == [], "at once, before anybody ends it on record"
        assert len(await at.store.active_containments("acme")) == 1
        await swept(containing, clock)
        assert await swept(containing, clock) is None
        rows = await at.store.containments_before("acme", AFTER_ALL_IDS, 9)
        assert [row.state for row in rows] == ["expired", "expired"]
        events = await at.store.audit_events("acme", 2**62, 9, action="containment.expire")
        assert [event.actor for event in events] == ["sidecar"] * 2


def barring(at: Place, clock: MovedClock) -> list[str]:
    """What blocks the agent at this moment."""
    contained = coder(at).contained
    blocks = () if contained is None else contained.blocks
    return [one.what for one in blocks if not one.is_over(clock.steady_us())]


async def test_the_end_is_by_the_clock_of_the_store(tmp_path: Path) -> None:
    """Ours is an hour ahead: what lasts half an hour is not over here."""
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        at.store._now_us = MovedClock().now_us  # the store's own
        clock.moved_s = 3600
        await at.callers.containing.contain(wanted("block-tool", "shop/get", for_s=1800))
        assert barring(at, clock) == ["shop/get"]
        await swept(at.callers.containing, clock)
        assert barring(at, clock) == ["shop/get"]
        clock.moved_s = 3600 + 1799
        assert barring(at, clock) == ["shop/get"]
        clock.moved_s = 3600 + 1801
        assert barring(at, clock) == []


async def test_a_store_that_does_not_answer_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        await freeze(at, for_s=1)
        clock.moved_s = 5

        async def down() -> int:
            raise StoreUnavailable("down")

        monkeypatch.setattr(at.store, "clock_us", down)
        assert await swept(at.callers.containing, clock) == pytest.approx(0.5)
        assert coder(at).state == "frozen"
        monkeypatch.undo()
        await swept(at.callers.containing, clock)
        assert coder(at).state == "active", "positive control"


async def test_a_containment_is_told_in_its_own_transaction_when_it_begins_and_ends(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as at:
        rings: list[int] = []
        told = (Told("ops", Severity.HIGH), Told("pager", Severity.CRITICAL))
        at.callers.containing.tells = ContainmentNews(told, lambda: rings.append(1))
        begun = await freeze(at, reason="leaks")
        assert await refused(freeze(at)) == "already_contained"
        await at.callers.containing.undo(
            "acme", begun.row.containment_id, actor=WHO, reason="was nothing"
        )
        rows = await at.store.deliveries_before("acme", AFTER_ALL_IDS, 9)
        bodies = {row.kind: json.loads(row.body)["containment"] for row in rows}
        assert len(rows) == len(rings) == 2, "what was refused was told to nobody"
        started, ended = bodies["containment.started"], bodies["containment.ended"]
        assert (started["action"], started["agent"], started["reason"], started["state"]) == (
            "freeze-agent", "coder", "leaks", "active",
        )  # fmt: skip
        assert (ended["state"], ended["ended_by"], ended["ended_reason"]) == (
            "undone", WHO, "was nothing",
        )  # fmt: skip
        assert coder(at).state == "active", "what is told takes nothing's place"
