"""Hints between the nodes of one server: heard at once, lost without harm, heard again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from conformance_setup import OpenStore

from storage import hints_of
from storage.postgres_hints import CHANNEL, PostgresHints

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)


class Node:
    """One that listens, and what it heard."""

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self.came = asyncio.Event()
        hints = hints_of(url, self._hear)
        assert hints is not None
        self.hints: PostgresHints = hints
        self.task = asyncio.create_task(hints.run())

    async def hears(self, word: str) -> None:
        """Waits until it hears this."""
        async with asyncio.timeout(10):
            while word not in self.heard:
                self.came.clear()
                await self.came.wait()

    def _hear(self, word: str) -> None:
        self.heard.append(word)
        self.came.set()


@pytest_asyncio.fixture
async def nodes(open_it: OpenStore, store_url: str) -> AsyncIterator[tuple[Node, Node]]:
    await open_it()
    both = Node(store_url), Node(store_url)
    for one in both:
        await one.hears("")
    yield both
    for one in both:
        one.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await one.task
        assert not one.hints.is_listening


async def test_a_hint_is_heard_at_every_node(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    await one.hints.give("approvals")
    await one.hears("approvals")
    await two.hears("approvals")
    assert (one.hints.given, two.hints.received) == (1, 1)


async def test_a17_what_was_missed_is_no_error_and_the_next_connection_says_so(
    nodes: tuple[Node, Node], store_url: str
) -> None:
    _, two = nodes
    two.heard.clear()
    connection = await asyncpg.connect(store_url)
    try:
        cut = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
        )
        assert len(cut) == 2
        await connection.execute(f"NOTIFY {CHANNEL}, 'missed'")
    finally:
        await connection.close()
    await two.hears("")
    assert "missed" not in two.heard
    await two.hints.give("agents")
    await two.hears("agents")


async def test_many_hints_at_once_are_all_given(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    await asyncio.gather(*(one.hints.give(f"w{number}") for number in range(20)))
    await two.hears("w19")
    assert (one.hints.given, one.hints.missed) == (20, 0)


async def test_without_a_connection_a_hint_is_counted_and_nothing_else(
    open_it: OpenStore, store_url: str
) -> None:
    await open_it()
    hints = hints_of(store_url, lambda _word: None)
    assert hints is not None
    await hints.give("approvals")
    assert (hints.given, hints.missed) == (0, 1)


async def test_a_file_has_no_other_nodes(store_url: str) -> None:
    assert hints_of("sqlite:///aegis.db", lambda _word: None) is None
    assert hints_of(store_url, lambda _word: None) is not None, "positive control"
