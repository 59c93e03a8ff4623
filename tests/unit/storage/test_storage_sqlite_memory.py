"""A file's batches from memory: the same answers and chains as if the file were asked every time,
and nothing is written on the word of a memory that is behind.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from storage_sqlite_setup import assert_chain, draft, grown, intent, opened, outcome, seal

from storage import SqlStore
from storage.records import AlreadyClosed, Entry, Recorded, Stale

TENANTS = ("acme", "rival")


@asynccontextmanager
async def asked(store: SqlStore) -> AsyncIterator[list[str]]:
    """What the writer is asked meanwhile."""
    writer: Any = store._driver._writer  # type: ignore[attr-defined]
    seen: list[str] = []
    await writer.set_trace_callback(seen.append)
    try:
        yield seen
    finally:
        await writer.set_trace_callback(None)


@contextmanager
def beside(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else who writes to the file, though nobody should."""
    other = sqlite3.connect(path, isolation_level=None)
    yield other
    other.close()


async def test_a_batch_on_what_this_process_left_reads_nothing_but_whether_it_still_stands(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "store.db") as store:
        async with asked(store) as first:
            await store.record([intent("c1", epoch=0, run_version=0, run_step=grown)], seal)
        assert any("json_each" in text for text in first), "positive control: the file was asked"
        async with asked(store) as second:
            entries = [outcome("c1"), intent("c2", epoch=0, run_version=1, run_step=grown)]
            answers = await store.record(entries, seal)
        assert [type(answer) for answer in answers] == [Recorded, Recorded]
        [read] = [text for text in second if text.startswith("SELECT")]
        assert read.startswith("SELECT 1 AS holds FROM chain_head WHERE tenant_id = 'acme'")
        rows = await store.receipts("acme", 0, 10)
        assert len(rows) == 3
        assert_chain(rows, await store.head("acme"))


async def test_an_epoch_that_somebody_else_raised_makes_the_very_next_batch_stale(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1", epoch=0)], seal)
        with beside(path) as other:
            other.execute("UPDATE chain_head SET epoch = 1")
        answers = await store.record([intent("c2", epoch=0), outcome("c1")], seal)
        assert answers[0] == Stale(1, None)
        assert isinstance(answers[1], Recorded)


async def test_a_head_that_somebody_else_moved_is_what_the_next_receipt_is_linked_onto(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
        async with opened_beside(path) as other:
            [theirs] = await other.record([intent("c2")], seal)
            assert isinstance(theirs, Recorded) and theirs.seq == 2
        [answer] = await store.record([intent("c3")], seal)
        assert isinstance(answer, Recorded) and answer.seq == 3
        rows = await store.receipts("acme", 0, 10)
        assert_chain(rows, await store.head("acme"))


@asynccontextmanager
async def opened_beside(path: Path) -> AsyncIterator[SqlStore]:
    """A second store on the same file, whose lock is not asked for: what must never be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.sqlite.FileLock", NoLock)
        async with opened(path) as store:
            yield store


class NoLock:
    """Locks nothing."""

    def __init__(self, path: Path) -> None:
        """Of any file."""

    def release(self) -> None:
        """Releases nothing."""


async def test_a_call_closed_twice_takes_nobody_else_along(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record([intent("c1"), intent("c2")], seal)
        await store.record([outcome("c1")], seal)
        answers = await store.record([intent("c3"), outcome("c1"), outcome("c2")], seal)
        assert [type(answer) for answer in answers] == [Recorded, AlreadyClosed, Recorded]
        rows = await store.receipts("acme", 0, 10)
        assert_chain(rows, await store.head("acme"))
        assert len(rows) == 5


async def test_what_was_planned_for_a_batch_that_failed_is_not_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record([intent("c1")], seal)

        def broken(*_: Any) -> Any:
            raise RuntimeError("the seal broke")

        with pytest.raises(Exception, match="the seal broke"):
            await store.record([intent("c2")], broken)
        [answer] = await store.record([intent("c3")], seal)
        assert isinstance(answer, Recorded) and answer.seq == 2


def any_entry(rng: random.Random) -> Entry:
    """Few ids and low guards, so that they collide often."""
    call_id, tenant_id = rng.choice("abcdefgh"), rng.choice(TENANTS)
    kind = rng.choice(["intent", "intent", "intent", "outcome", "outcome", "refusal"])
    if kind == "outcome":
        return outcome(call_id, tenant_id)
    if kind == "refusal":
        return Entry(draft(tenant_id, kind, call_id=f"{call_id}{rng.randrange(1000)}"))
    return intent(
        f"{call_id}{rng.randrange(3)}" if rng.random() < 0.5 else call_id,
        tenant_id,
        epoch=rng.choice([None, 0, 0, 0, 1]),
        run_version=rng.choice([None, None, 0, 1, 2]),
        run_step=grown if rng.random() < 0.3 else None,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_any_batches_come_to_what_they_come_to_without_memory(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with opened(tmp_path / "a.db") as store, opened(tmp_path / "b.db") as twin:
        twin._memory = None
        kinds = set()
        for _ in range(120):
            if rng.random() < 0.03:
                tenant = rng.choice(TENANTS)
                assert await store.raise_epoch(tenant) == await twin.raise_epoch(tenant)
            batch = [any_entry(rng) for _ in range(rng.randrange(1, 7))]
            answers = await store.record(batch, seal)
            assert answers == await twin.record(batch, seal)
            kinds |= {type(answer).__name__ for answer in answers}
        assert kinds == {"Recorded", "Stale", "AlreadyClosed", "Unrecordable"}
        for tenant in TENANTS:
            rows = await store.receipts(tenant, 0, 10_000)
            assert rows == await twin.receipts(tenant, 0, 10_000)
            assert_chain(rows, await store.head(tenant))
