"""What no receipt tells of: a store that took none, a chain that does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from watch_setup import CHAIN, STORE, Desk, desk

from sidecar.soc.beside import PLACES, Beside
from sidecar.soc.chain_sweep import SWEEPER, ChainSweep
from sidecar.soc_rooms import store_refusals
from sidecar.telemetry.counters import FAIL_CLOSED_REASONS
from storage.errors import StoreUnavailable
from storage.retention import Cut, Retention


async def test_calls_that_the_store_refused_are_an_alert_once_it_takes_one(tmp_path: Path) -> None:
    async with desk(tmp_path, STORE) as at:
        await at.refuse(1)
        beside = at.beside()
        beside.refused("acme", "queue_full")
        at.submitting.fails = 3
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await beside.turn()
        assert await at.alerts() == []
        await beside.turn()
        await beside.turn()
        (alert,) = await at.alerts()
        assert (alert.detection, alert.hits) == ("refusing", 1)
        seen = at.store.known.all()["acme"]
        assert f'"seq":{seen.seq - 1}' in alert.evidence, "the last receipt there was"
        at.clock.move(1)
        beside.refused("acme", "store_unavailable")
        await beside.turn()
        (alert,) = await at.alerts()
        assert alert.hits == 2, "while it is quiet, more of it joins"


async def test_a_tenant_that_never_recorded_anything_is_not_told(tmp_path: Path) -> None:
    async with desk(tmp_path, STORE) as at:
        beside = at.beside()
        beside.refused("acme", "queue_full")
        await beside.turn()
        assert await at.alerts() == []


def test_only_refusals_of_the_store_are_its_events() -> None:
    denied = dict.fromkeys(FAIL_CLOSED_REASONS, 1)
    found = store_refusals(denied)
    assert set(found) == {"queue_full", "store_fenced", "store_moved", "store_unavailable"}
    assert sum(found.values()) == len(FAIL_CLOSED_REASONS) - 7
    for reason in ("condition_error", "internal_error", "shutting_down", "bodies_full"):
        assert sum(store_refusals({reason: 9}).values()) == 0


CHANGE = "UPDATE receipts SET agent_id = 'nobody' WHERE tenant_id = 'acme' AND seq = ?"
REMOVE = "DELETE FROM receipts WHERE tenant_id = 'acme' AND seq = ?"


def sweep_of(at: Desk, beside: Beside) -> ChainSweep:
    return ChainSweep(("acme",), at.rooms(), at.fence, beside.broke, rest_s=0)


@pytest.mark.parametrize(
    ("sql", "place", "before"), [(CHANGE, 2, 1), (REMOVE, 2, 1), (CHANGE, 1, 0), (REMOVE, 4, 3)]
)
async def test_a_receipt_that_was_changed_or_removed_is_an_alert_once(
    tmp_path: Path, sql: str, place: int, before: int
) -> None:
    async with desk(tmp_path, CHAIN) as at:
        await at.refuse(4)
        beside = at.beside()
        await sweep_of(at, beside).round("acme")
        await beside.turn()
        assert await at.alerts() == [], "positive control: nothing was done to it yet"
        at.tamper(sql, place)
        at.clock.move(7 * 3600)
        await sweep_of(at, beside).round("acme")
        await beside.turn()
        (alert,) = await at.alerts()
        assert (alert.detection, alert.severity) == ("broken", "critical")
        assert f'"seq":{before}' in alert.evidence
        assert at.counts.breaks == 1
        for _ in range(2):  # found again, by this process and by the next
            at.clock.move(7 * 3600)
            again = at.beside()
            await sweep_of(at, again).round("acme")
            await again.turn()
            await sweep_of(at, beside).round("acme")
            await beside.turn()
        assert len(await at.alerts()) == 1


async def test_two_places_are_two_alerts_and_what_comes_after_them_holds(tmp_path: Path) -> None:
    async with desk(tmp_path, CHAIN) as at:
        await at.refuse(6)
        at.tamper(CHANGE, 2)
        at.tamper(CHANGE, 5)
        beside = at.beside()
        await sweep_of(at, beside).round("acme")
        await beside.turn()
        memories = await at.store.watch_memories("acme", (PLACES, ""), 9)
        assert [row.subject for row in memories] == ["2", "5"]
        assert at.counts.breaks == 2


async def test_whoever_reads_what_is_new_sees_that_it_does_not_hold(tmp_path: Path) -> None:
    async with desk(tmp_path, CHAIN) as at:
        watched = at.watched()
        await watched.begin(at.head())
        await at.refuse(4)
        at.tamper(CHANGE, 3)
        await at.look(watched)
        (found,) = at.broken
        assert (found.seq, found.code, found.before.seq) == (3, "receipt_broken", 2)


async def test_receipts_that_are_gone_are_noticed_after_a_few_looks(tmp_path: Path) -> None:
    async with desk(tmp_path, CHAIN) as at:
        watched = at.watched()
        await watched.begin(at.head())
        await at.refuse(4)
        at.tamper("DELETE FROM receipts WHERE seq > 2")
        for _ in range(8):
            await at.look(watched)
        (found,) = at.broken
        assert (found.seq, found.before.seq) == (3, 2)
        await at.refuse(1)
        await at.look(watched)
        assert len(at.broken) == 1, "what comes after goes on from the head"


async def test_a_round_goes_on_where_it_was_left_and_rests_when_it_is_over(tmp_path: Path) -> None:
    async with desk(tmp_path, CHAIN) as at:
        await at.refuse(120)
        beside = at.beside()
        await sweep_of(at, beside).round("acme")
        assert at.counts.swept == 120
        await sweep_of(at, beside).round("acme")
        assert at.counts.swept == 120, "it is not time yet"
        mark = await at.store.watch_mark("acme", SWEEPER)
        assert mark is not None and mark.seq == 0
        await at.store.put_rows("acme", [mark._replace(version=mark.version + 1, seq=100)])
        await sweep_of(at, beside).round("acme")
        assert at.counts.swept == 140


async def test_a_chain_that_was_cut_is_swept_from_its_cut(tmp_path: Path) -> None:
    async with desk(tmp_path, CHAIN) as at:
        await at.refuse(6)
        (row,) = await at.store.receipts("acme", 2, 1)
        cut = Cut(row.seq, row.receipt_hash, row.ts_us, "", "", "")
        await Retention(at.store).cut_off("acme", cut)
        beside = at.beside()
        await sweep_of(at, beside).round("acme")
        await beside.turn()
        assert (at.counts.swept, at.counts.breaks) == (3, 0)
