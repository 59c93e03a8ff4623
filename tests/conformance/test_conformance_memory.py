"""Batches recorded from memory, in one round trip: the same answers and the same chains as if the
store were asked every time, whoever else appends in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import postgres_server
import pytest
import pytest_asyncio
from conformance_setup import UNSEALABLE, assert_chain, draft, grown, intent, outcome, run, seal

from storage import SqlStore, open_store
from storage.records import Answer, Entry, Recorded, Stale

TENANTS = ("acme", "rival", "third")


class Nodes:
    """Two nodes on one server, and a file beside it that is given the same batches."""

    def __init__(self, stores: list[SqlStore], twin: SqlStore, url: str) -> None:
        self.stores, self.twin, self.url = stores, twin, url


@pytest_asyncio.fixture
async def nodes(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = await postgres_server.new_database(postgres_dsn)
    stores = [await open_store(url, now_us=lambda: 1, node_id=f"node-{n}") for n in (1, 2)]
    twin = await open_store(f"sqlite:///{tmp_path}/twin.db", now_us=lambda: 1, node_id="twin")
    twin._memory = None  # it asks every time
    yield Nodes(stores, twin, url)
    for store in (*stores, twin):
        await store.close()


class Counting:
    """How many statements a node's writer sends."""

    def __init__(self, store: SqlStore) -> None:
        self._sent: list[str] = []
        writer: Any = store._driver._writer  # type: ignore[attr-defined]
        writer.add_query_logger(lambda record: self._sent.append(record.query))

    async def sent(self) -> list[str]:
        """So far; the loop is given a turn to be told of the last."""
        await asyncio.sleep(0)
        return self._sent


def any_entry(rng: random.Random) -> Entry:
    """Few ids and low guards, so that they collide often."""
    call_id, tenant_id = rng.choice("abcdefgh"), rng.choice(TENANTS)
    kind = rng.choice(["intent", "intent", "intent", "outcome", "outcome", "refusal", "bad"])
    if kind == "outcome":
        return outcome(call_id, tenant_id)
    if kind == "refusal":
        return Entry(draft(tenant_id, kind, call_id=f"{call_id}{rng.randrange(1000)}"))
    entry = intent(
        f"{call_id}{rng.randrange(3)}" if kind == "intent" else call_id,
        tenant_id,
        epoch=rng.choice([None, 0, 0, 0, 1]),
        run_version=rng.choice([None, None, 0, 1, 2]),
        run_step=grown if rng.random() < 0.3 else None,
    )
    if kind == "bad" and rng.random() < 0.3:
        entry.receipt = entry.receipt._replace(resource=UNSEALABLE)
    return entry


async def check_chains(store: SqlStore, twin: SqlStore) -> None:
    for tenant in TENANTS:
        rows = await store.receipts(tenant, 0, 10_000)
        assert rows == await twin.receipts(tenant, 0, 10_000)
        head = await store.head(tenant)
        assert head == await twin.head(tenant)
        assert_chain(rows, head)


@pytest.mark.parametrize("seed", range(4))
async def test_any_batches_of_two_nodes_come_to_what_one_file_comes_to(
    nodes: Nodes, seed: int
) -> None:
    rng = random.Random(seed)
    answered: list[Answer] = []
    for number in range(100):
        # Long turns, so that memory is used, and short ones, so that it is behind.
        store = nodes.stores[(number // rng.choice([1, 7, 40])) % 2]
        if rng.random() < 0.03:
            tenant = rng.choice(TENANTS)
            assert await store.raise_epoch(tenant) == await nodes.twin.raise_epoch(tenant)
        batch = [any_entry(rng) for _ in range(rng.randrange(1, 9))]
        if rng.random() < 0.5:
            batch = [e for e in batch if e.receipt.tenant_id == TENANTS[0]] or batch
        answers = await store.record(batch, seal)
        expected = await nodes.twin.record(batch, seal)
        assert [type(answer) for answer in answers] == [type(answer) for answer in expected]
        for answer, wanted in zip(answers, expected, strict=True):
            if isinstance(answer, Recorded | Stale):
                assert answer == wanted
        answered += answers
    await check_chains(nodes.stores[0], nodes.twin)
    assert {type(answer).__name__ for answer in answered} == {
        "Recorded", "Stale", "AlreadyClosed", "Unrecordable",
    }  # fmt: skip


async def test_a_batch_on_what_this_process_left_is_one_statement(nodes: Nodes) -> None:
    store = nodes.stores[0]
    await store.record([intent("c0", epoch=0)], seal)
    counting = Counting(store)
    [answer] = await store.record([intent("c1", epoch=0)], seal)
    assert isinstance(answer, Recorded) and answer.seq == 2
    [sent] = await counting.sent()
    assert sent.startswith("WITH guard")
    await store.record([outcome("c0"), outcome("c1"), intent("c2", epoch=0)], seal)
    assert len(await counting.sent()) == 2


async def test_a_run_is_remembered_with_its_head(nodes: Nodes) -> None:
    store, other = nodes.stores
    await store.record([intent("c1", run_version=0, run_step=grown)], seal)
    counting = Counting(store)
    [answer] = await store.record([intent("c2", run_version=1, run_step=grown)], seal)
    assert isinstance(answer, Recorded)
    assert len(await counting.sent()) == 1
    [theirs] = await other.record([intent("c3", run_version=2, run_step=grown)], seal)
    assert isinstance(theirs, Recorded)
    [answer] = await store.record([intent("c4", run_version=2)], seal)
    assert answer == Stale(0, run(3)), "the memory is behind, and the store is asked"


async def test_nothing_is_written_from_a_memory_that_is_behind(nodes: Nodes) -> None:
    store, other = nodes.stores
    await store.record([intent("c1")], seal)
    await other.record([intent("c2")], seal)
    counting = Counting(store)
    [answer] = await store.record([intent("c3")], seal)
    assert isinstance(answer, Recorded) and answer.seq == 3
    assert len(await counting.sent()) > 2
    before = len(await counting.sent())
    await store.record([intent("c4")], seal)
    sent = (await counting.sent())[before:]
    assert not any(query.startswith("WITH guard") for query in sent), (
        "a chain that others append to is not tried again at once"
    )
    rows = await store.receipts("acme", 0, 10)
    assert_chain(rows, await store.head("acme"))


async def test_an_epoch_raised_elsewhere_meets_the_very_next_batch(nodes: Nodes) -> None:
    store, other = nodes.stores
    await store.record([intent("c1", epoch=0)], seal)
    assert await other.raise_epoch("acme") == 1
    [answer] = await store.record([intent("c2", epoch=0)], seal)
    assert answer == Stale(1, None)


async def test_a_call_closed_twice_from_memory_takes_back_its_whole_statement(
    nodes: Nodes,
) -> None:
    store = nodes.stores[0]
    await store.record([intent("c1"), intent("c2")], seal)
    await store.record([outcome("c1")], seal)
    answers = await store.record([intent("c3"), outcome("c1"), outcome("c2")], seal)
    assert [type(answer).__name__ for answer in answers] == [
        "Recorded", "AlreadyClosed", "Recorded",
    ]  # fmt: skip
    rows = await store.receipts("acme", 0, 10)
    assert_chain(rows, await store.head("acme"))
    assert len(rows) == 5


async def test_the_row_wall_stands_around_a_guarded_batch(nodes: Nodes) -> None:
    """A batch that names its tenants sees the rows of nobody else's, memory or not."""
    await nodes.stores[0].record([intent("c1", "acme"), intent("c1", "rival")], seal)
    await nodes.stores[0].record([intent("c2", "acme")], seal)
    await nodes.stores[0].record([intent("c3", "acme")], seal)
    writer: Any = nodes.stores[0]._driver._writer  # type: ignore[attr-defined]
    assert await writer.fetchval("SELECT current_setting('aegis.tenants')") == "acme"
    assert isinstance(writer, asyncpg.Connection)
