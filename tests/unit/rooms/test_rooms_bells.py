"""Rings led between processes on one server: who polls looks now, and not at his next turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import postgres_server
import pytest
import pytest_asyncio

from sidecar.approvals.waiting import Key, Waiting
from sidecar.bell import Bell
from sidecar.rooms import Tasks, _hang


async def test_a_bell_rung_while_nobody_rests_is_not_lost() -> None:
    bell = Bell()
    bell.ring()
    async with asyncio.timeout(1):
        await bell.rest(60)
    began = time.monotonic()
    await bell.rest(0.05)
    assert time.monotonic() - began >= 0.04, "it rang once"
    bell.ring_elsewhere()  # nobody hears it, and nothing is raised


@pytest_asyncio.fixture
async def server() -> AsyncIterator[str]:
    with postgres_server.server() as dsn:
        from storage import open_store

        url = await postgres_server.new_database(dsn)
        store = await open_store(url, now_us=lambda: 1)
        await store.close()
        yield url


async def test_a17_a_decision_elsewhere_is_looked_for_at_once(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.approvals.waiting.POLL_S", 60.0)
    decided: set[Key] = set()

    async def asked(keys: Sequence[Key]) -> list[Key]:
        return [key for key in keys if key in decided]

    async with AsyncExitStack() as stack:
        nodes: list[tuple[Waiting, Tasks]] = []
        for _ in range(2):
            waiting, tasks = Waiting(), Tasks(stack)
            config: Any = SimpleNamespace(store=server)
            _hang({"approvals": waiting.bell}, config, tasks)
            nodes.append((waiting, tasks))
        (one, _), (two, tasks) = nodes
        tasks.start(two.poll(asked), "poll")
        key = ("acme", "a1")
        with two.joined(key) as event:
            await asyncio.sleep(1.0)  # both listen by now, and the first look found nothing
            assert not event.is_set()
            decided.add(key)
            began = time.monotonic()
            one.bell.ring_elsewhere()
            async with asyncio.timeout(10):
                await event.wait()
            assert time.monotonic() - began < 5
