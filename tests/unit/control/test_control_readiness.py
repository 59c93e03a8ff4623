"""A store that commits too late for everybody: not ready, until a commit comes in time again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from control_setup import Setup, control_plane

from sidecar.control import readiness
from storage.errors import QueueFull, QueueTimeout
from storage.records import Answer, Entry, Seal

#: In which calls are turned away, in these tests; so that they do not take longer.
BEHIND_S = 0.4
WAIT_S = 0.15
BEHIND = [readiness._BEHIND]


class Slow:
    """A store whose commits take a while."""

    def __init__(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commit_s = 0.0
        record, probe = setup.store.record, setup.store.probe

        async def slow_record(entries: Sequence[Entry], seal: Seal) -> list[Answer]:
            await asyncio.sleep(self.commit_s)
            return await record(entries, seal)

        async def slow_probe() -> None:
            await asyncio.sleep(self.commit_s)
            await probe()

        monkeypatch.setattr(setup.store, "record", slow_record)
        monkeypatch.setattr(setup.store, "probe", slow_probe)


async def called(setup: Setup, count: int = 1) -> list[Any]:
    """What became of so many calls at once."""
    calls = (setup.record() for _ in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.fixture
def few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "BEHIND_S", BEHIND_S)


@pytest.mark.usefixtures("few_seconds")
async def test_a5_commits_that_come_too_late_for_everybody_are_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path, queue_wait_s=WAIT_S) as setup:
        slow = Slow(setup, monkeypatch)
        assert await called(setup) == [None]
        assert await setup.state.not_ready() == []
        slow.commit_s = 2 * WAIT_S
        until = asyncio.get_running_loop().time() + 2 * BEHIND_S
        while asyncio.get_running_loop().time() < until:
            assert isinstance((await called(setup))[0], QueueTimeout)
        assert setup.queue.counters.batches > 1 and setup.queue.healthy, "it commits all the while"
        assert await setup.state.not_ready() == BEHIND
        told = (await setup.state.status())["store"]
        assert told["sentence"].startswith("The store does not commit in time: every call is re")
        assert told["cause"] and told["next_step"].startswith("Look at the disk")
        assert not told["healthy"], "`store status` ends with 1"
        await asyncio.sleep(1.5 * BEHIND_S)
        silent = await setup.state.not_ready()
        assert silent == ["the store does not answer"], "that nobody calls any more mends nothing"
        slow.commit_s = 0.0
        await asyncio.sleep(3 * WAIT_S)  # the probe of before ends by itself
        assert await setup.state.not_ready() == []
        told = (await setup.state.status())["store"]
        assert told["healthy"] and told["cause"] == told["next_step"] == ""


@pytest.mark.usefixtures("few_seconds")
async def test_a5_a_call_in_time_is_ready_though_others_were_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst that is more than the queue holds is no reason to send calls elsewhere."""
    async with control_plane(tmp_path, queue_wait_s=5.0) as setup:
        slow = Slow(setup, monkeypatch)
        slow.commit_s = 0.02
        answers = await called(setup, setup.queue.capacity + 20)
        assert sum(isinstance(one, QueueFull) for one in answers) >= 20
        assert answers.count(None) >= setup.queue.capacity
        assert await setup.state.not_ready() == []


@pytest.mark.usefixtures("few_seconds")
async def test_a5_a_full_queue_that_serves_nobody_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path, queue_wait_s=5.0) as setup:
        slow = Slow(setup, monkeypatch)
        slow.commit_s = 3 * BEHIND_S
        waiting = asyncio.ensure_future(called(setup, setup.queue.capacity))
        await asyncio.sleep(0.01)
        assert isinstance((await called(setup))[0], QueueFull)
        assert await setup.state.not_ready() == BEHIND
        slow.commit_s = 0.0
        assert await waiting == [None] * setup.queue.capacity
        assert await setup.state.not_ready() == [], "a commit in time"
