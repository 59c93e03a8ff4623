"""One task for all tenants: each gets its turn, failures are counted and tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from watch_setup import STORE, STORM, Desk, desk, detections

from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Standing
from sidecar.soc.watch_lease import WATCHER
from sidecar.soc.watched import Watched
from sidecar.soc.watcher import REFUSALS_TENANTS_MAX, Watcher
from storage.records import Entry


class Turns:
    """A watcher whose rounds are made by hand."""

    def __init__(self, at: Desk, *tenants: str) -> None:
        self.at = at
        self.refused: dict[str, int] = {}
        rooms = at.rooms()
        self.watcher = Watcher(
            tenants or ("acme",),
            rooms,
            at.beside(),
            at.fence,
            refusals=lambda: self.refused,
            is_alone=True,
        )

    async def rounds(self, count: int = 3) -> None:
        for _ in range(count):
            self.at.clock.move(0.5)
            while await self.watcher._round():
                continue


async def test_every_tenant_has_its_turn_and_alerts_of_its_own(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        turns = Turns(at, "acme", "rival", "silent")
        await turns.watcher.begin()
        await at.refuse(3)
        for _ in range(2):
            row = at.refused("coder")._replace(tenant_id="rival")
            await at.store.record([Entry(row)], seal)
        await turns.rounds()
        assert len(await at.alerts()) == 1
        assert await at.store.alerts_before("rival", "z", 9) == []
        assert turns.watcher.watching == 3


async def test_without_detections_nothing_is_watched_until_there_are_some(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        known = at.detections
        at.detections = detections()
        turns = Turns(at)
        await turns.watcher.begin()
        assert await at.store.watch_mark("acme", WATCHER) is None
        await at.refuse(5)
        at.detections = known
        await turns.rounds()
        assert await at.alerts() == [], "what was recorded before them is history"
        at.clock.move(60)
        await at.refuse(3)
        await turns.rounds()
        assert len(await at.alerts()) == 1


async def test_a_store_that_fails_is_counted_and_asked_less_and_less_often(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        turns = Turns(at)
        await turns.watcher.begin()
        await at.refuse(3)
        at.submitting.fails = 10**6
        await turns.rounds(60)  # half a minute
        tries = turns.watcher.counts.errors["store_unavailable"]
        assert 5 <= tries <= 15
        assert turns.watcher.lag_s() > 25, "nobody looks, and that shows"
        at.submitting.fails = 0
        await turns.rounds(12)
        assert len(await at.alerts()) == 1
        assert turns.watcher.lag_s() == 0.0


async def test_a_fault_of_ours_ends_nobody_elses_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path) as at:
        turns = Turns(at, "rival", "acme")
        await turns.watcher.begin()
        real = Watched.turn

        async def turn(self: Watched, head: object) -> bool:
            if self.tenant == "rival":
                raise RuntimeError("a fault")
            return await real(self, head)  # type: ignore[arg-type]

        monkeypatch.setattr(Watched, "turn", turn)
        await at.refuse(3)
        await turns.rounds()
        assert len(await at.alerts()) == 1
        assert turns.watcher.counts.errors["internal_error"] >= 1


async def test_behind_a_fence_nothing_is_committed(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        turns = Turns(at)
        await turns.watcher.begin()
        await at.refuse(3)
        at.fence.stand(Standing("f1", "elsewhere", "a move", 0))
        mark = await at.store.watch_mark("acme", WATCHER)
        await turns.rounds()
        await turns.watcher.close()
        assert await at.store.watch_mark("acme", WATCHER) == mark
        at.fence.lift()
        await turns.rounds()
        assert len(await at.alerts()) == 1


async def test_refused_calls_are_noticed_once_a_look_whatever_their_number(tmp_path: Path) -> None:
    async with desk(tmp_path, STORM, STORE) as at:
        await at.refuse(1)
        turns = Turns(at, *(f"t{n}" for n in range(REFUSALS_TENANTS_MAX)), "acme")
        await turns.watcher.begin()
        turns.refused = {"queue_full": 500}
        await turns.rounds(4)
        assert await at.alerts() == [], "the process told the first tenants only"
        turns = Turns(at)
        await turns.watcher.begin()
        turns.refused = {"queue_full": 500}
        await turns.rounds(6)
        (alert,) = await at.alerts()
        assert alert.hits == 1
