"""A tenant's record behind a durable cursor: nothing is lost, nothing doubled, all is bounded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from watch_setup import STORM, Desk, desk, detections

from sidecar.ledger.chain import seal
from sidecar.soc import watch_reading
from sidecar.soc.watch_lease import WATCHER
from sidecar.soc.watch_share import Share
from sidecar.soc.watched import Watched
from storage.errors import StoreUnavailable
from storage.records import CallFactsRow, Entry, RecordedEvent
from storage.watch_rows import WatchMark


async def mark_of(at: Desk) -> WatchMark:
    mark = await at.store.watch_mark("acme", WATCHER)
    assert mark is not None
    return mark


async def begun(at: Desk) -> Watched:
    watched = at.watched()
    await watched.begin(at.head())
    return watched


async def test_what_is_recorded_raises_an_alert_and_the_mark_stands_behind_it(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(3)
        await at.look(watched)
        (alert,) = await at.alerts()
        assert (alert.detection, alert.agent_id, alert.hits) == ("storm", "coder", 1)
        assert (await mark_of(at)).seq == 3
        assert at.counts.raised["high"] == 1
        (row,) = await at.store.receipts("acme", 3, 9)
        assert (row.kind, row.action) == ("control", "alerts.raised")


async def test_a_start_goes_on_in_the_middle_of_a_window(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(2)
        at.clock.move(5)
        await at.look(watched)
        assert (await mark_of(at)).seq == 0, "positive control: a page alone moves no mark at once"
        at.clock.move(3)
        await at.look(watched)
        assert (await mark_of(at)).seq == 2
        await at.refuse(1)
        await at.look(at.watched())  # another process: the first was killed
        (alert,) = await at.alerts()
        assert alert.hits == 1
        assert len({one["seq"] for one in _evidence(alert.evidence)}) == 3


def _evidence(text: str) -> list[dict[str, int]]:
    raised: list[dict[str, int]] = json.loads(text)["raised"]
    return raised


async def test_what_was_raised_is_not_raised_again_after_a_start(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.look(await _after_a_storm(at))
        for _ in range(3):
            await at.look(at.watched())
        (alert,) = await at.alerts()
        assert alert.hits == 1
        assert (await at.store.head("acme")).seq == 4, "and no receipt more"


async def _after_a_storm(at: Desk) -> Watched:
    watched = await begun(at)
    await at.refuse(3)
    return watched


async def test_the_first_start_begins_at_the_head(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.refuse(3, agent="other")
        await at.refuse(2)
        watched = await begun(at)
        await at.look(watched)
        assert await at.alerts() == []
        assert (await mark_of(at)).seq == 5
        await at.refuse(1)
        await at.look(watched)
        (alert,) = await at.alerts()
        assert alert.hits == 1, "what was before it counts, and raises nothing itself"


async def test_a_store_that_takes_nothing_loses_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await _after_a_storm(at)
        at.submitting.fails = 2
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await at.look(watched)
        assert await at.alerts() == []
        assert (await mark_of(at)).seq == 0
        await at.look(watched)
        assert len(await at.alerts()) == 1
        assert (await mark_of(at)).seq == 3


async def test_of_two_that_watch_the_slower_begins_anew_and_raises_nothing_twice(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        slow = await begun(at)
        await at.refuse(2)
        await at.look(slow)
        fast = at.watched()  # the same node: it need not wait for the lease
        await at.look(fast)
        await at.refuse(1)
        await at.look(slow)
        await at.look(fast)
        (alert,) = await at.alerts()
        assert alert.hits == 1
        assert at.counts.overtaken >= 1


async def test_people_who_change_the_alert_meanwhile_cost_only_another_try(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await _after_a_storm(at)
        await at.look(watched)
        real = at.store.alerts_quiet
        changed: list[int] = []

        async def changing(*asked: object) -> list[object]:
            rows = await real(*asked)  # type: ignore[arg-type]
            if not changed:
                changed.append(1)
                row = rows[0]
                await at.store.put_rows("acme", [row._replace(version=row.version + 1)])
            return list(rows)

        at.store.alerts_quiet = changing  # type: ignore[method-assign, assignment]
        at.clock.move(60)
        await at.refuse(3)
        await at.look(watched)
        (alert,) = await at.alerts()
        assert (alert.hits, alert.version, at.counts.overtaken) == (2, 3, 0)


async def test_reading_again_is_bounded_and_says_when_it_is_cut(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(2)
        await at.refuse(20, agent="other", every_s=0)
        at.clock.move(3)
        await at.look(watched)
        await at.look(watched)
        whole, short = at.watched(), at.watched(receipts_max=10)
        await at.look(whole)
        assert at.counts.rebuilds_cut == 0, "positive control"
        await at.look(short)
        assert at.counts.rebuilds_cut == 1
        await at.refuse(1)
        await at.look(short)
        assert [one.agent_id for one in await at.alerts()] == ["other"], "coder's two were not read"


async def test_only_what_is_looked_back_at_is_read_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(200, agent="other", every_s=10)
        await at.look(watched)
        before = at.counts.receipts
        await at.look(at.watched())
        assert at.counts.receipts - before < 20, "two minutes of them, not all"


async def test_other_detections_come_into_force_and_those_that_stay_know_what_they_knew(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(2)
        await at.look(watched)
        at.detections = detections(STORM, STORM.replace("storm", "squall").replace("3", "2"))
        await at.look(watched)
        await at.refuse(1)
        await at.look(watched)
        assert sorted(one.detection for one in await at.alerts()) == ["squall", "storm"]


async def test_a_quiet_tenant_costs_no_commit(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await _after_a_storm(at)
        await at.look(watched)
        at.clock.move(3)
        await at.look(watched)
        version = (await mark_of(at)).version
        for _ in range(20):
            at.clock.move(3)
            assert watched.is_idle(at.head())
            await at.look(watched)
        assert (await mark_of(at)).version == version


async def test_a_long_rebuild_keeps_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_reading, "PAGE_ROWS", 1)
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(10, agent="other", every_s=0.1)
        at.clock.move(3)
        await at.look(watched)
        again = at.watched()
        before = 0
        while await again.turn(at.head()):
            at.clock.move(4)
            mark = await mark_of(at)
            assert mark.until_us >= at.clock.now_us()
            before = before or mark.version
        assert (await mark_of(at)).version > before


async def test_the_lag_is_the_age_of_what_was_looked_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_reading, "PAGE_ROWS", 2)
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(5, every_s=0)
        at.clock.move(7)
        assert watched.lag_s() == 0.0
        await watched.turn(at.head())
        assert watched.lag_s() == pytest.approx(7)
        await at.look(watched)
        assert watched.lag_s() == 0.0


async def test_how_far_it_has_come_is_kept_at_the_end(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(2)
        await at.look(watched)
        assert (await mark_of(at)).seq == 0, "positive control"
        await watched.end()
        mark = await mark_of(at)
        assert (mark.seq, mark.until_us) == (2, at.clock.now_us())


async def test_a_stop_amid_a_page_loses_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Share, "is_over", lambda _: True)
    async with desk(tmp_path) as at:
        rests: list[float] = []

        async def stopped(seconds: float) -> None:
            rests.append(seconds)
            if len(rests) == 5:  # after the fourth receipt: the third completed a storm
                raise asyncio.CancelledError

        at.sleep = stopped
        watched = await begun(at)
        await at.refuse(6)
        with pytest.raises(asyncio.CancelledError):
            await at.look(watched)
        await watched.end()
        assert (await mark_of(at)).seq == 0
        await at.look(at.watched())
        assert [one.hits for one in await at.alerts()] == [1]


async def test_what_is_never_taken_is_given_up_and_what_comes_after_it_is_noticed(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        watched = await _after_a_storm(at)
        at.submitting.refuses = watch_reading.TRIES_MAX  # and then it works
        await at.look(watched)
        assert (len(await at.alerts()), at.counts.dropped) == (1, 0), "positive control"
        at.clock.move(4000)
        await at.refuse(3)
        at.submitting.refuses = 2 * watch_reading.TRIES_MAX
        await at.look(watched)
        assert (len(await at.alerts()), at.counts.dropped) == (1, 1)
        await at.refuse(3, agent="other")
        await at.look(watched)
        assert [one.agent_id for one in await at.alerts()] == ["coder", "other"]


async def test_another_node_waits_for_the_lease_and_then_whether_nobody_looks(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(2)
        at.clock.move(3)
        await at.look(watched)
        at.store.node_id = "n2"
        other = at.watched()
        await at.refuse(1, every_s=0)
        waited = 0
        while not other.is_watching:
            at.clock.move(1)
            waited += 1
            await at.look(other)
            assert waited < 20
        assert 12 <= waited <= 15, "a lease of ten seconds, and three more"
        await at.look(other)
        assert [one.hits for one in await at.alerts()] == [1]
        at.store.node_id = "n1"
        await at.refuse(1)
        await at.look(watched)
        assert at.counts.overtaken == 1, "the first one finds that it does not watch any more"


async def test_where_nothing_is_new_a_lease_that_ran_out_is_left_alone(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        await at.refuse(2)
        await at.look(watched)
        at.clock.move(3)
        await at.look(watched)
        at.store.node_id = "n2"
        other = at.watched()
        for _ in range(30):
            at.clock.move(1)
            await at.look(other)
        assert not other.is_watching


async def test_large_arguments_make_pages_short_and_each_event_is_seen_once(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        watched = await begun(at)
        arguments = '"' + "x" * 1024 * 1024 + '"'
        for _ in range(20):
            at.clock.move(60)
            facts = CallFactsRow("acme", 0, "5a17", arguments, "{}")
            await at.store.record([Entry(at.refused(), facts=facts)], seal)
        pages, recorded_after = list[int](), at.store.recorded_after

        async def reading(*asked: Any, **more: Any) -> list[RecordedEvent]:
            page = await recorded_after(*asked, **more)
            pages.append(len(page))
            return page

        at.store.recorded_after = reading  # type: ignore[method-assign]
        await at.look(watched)
        assert pages == [8, 8, 4]
        assert (at.counts.receipts, at.counts.events) == (20, 20)
        assert at.broken == []
        await at.refuse(3)
        await at.look(watched)
        (alert,) = await at.alerts()
        assert alert.hits == 1, "positive control: they are looked at"
