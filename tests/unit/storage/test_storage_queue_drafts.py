"""Entries that are drafted when their batch is put together, by the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from storage_queue_setup import ToldStore, begin, intent, told_queue, until

from storage.errors import QueueTimeout
from storage.records import Answer, Entry, Recorded
from storage.write_queue import WriteQueue


class Drafts:
    """Notes what was drafted, and when: with how many batches before it."""

    def __init__(self, store: ToldStore) -> None:
        self.store = store
        self.drawn: list[tuple[str, int]] = []

    def of(self, call_id: str, fault: Exception | None = None) -> Callable[[], Entry]:
        def draft() -> Entry:
            self.drawn.append((call_id, len(self.store.attempts)))
            if fault is not None:
                raise fault
            return intent(call_id=call_id)

        return draft


@asynccontextmanager
async def busy(
    store: ToldStore, **settings: Any
) -> AsyncIterator[tuple[WriteQueue, asyncio.Task[Answer]]]:
    """A queue whose store is held up by a first batch until its gate is opened."""
    store.gate.clear()
    async with told_queue(store, **settings) as queue:
        first = begin(queue, intent(call_id="first"))
        await store.entered.wait()
        yield queue, first


def begin_draft(queue: WriteQueue, draft: Callable[[], Entry]) -> asyncio.Task[Answer]:
    return asyncio.get_running_loop().create_task(queue.submit_draft("t", draft))


async def test_an_entry_is_drafted_once_with_its_batch() -> None:
    store = ToldStore()
    drafts = Drafts(store)
    async with busy(store) as (queue, first):
        waiting = [begin_draft(queue, drafts.of(name)) for name in ("a", "b")]
        await asyncio.sleep(0.01)
        assert drafts.drawn == [], "its batch is not put together yet"
        store.gate.set()
        answers = await asyncio.gather(first, *waiting)
        assert all(isinstance(answer, Recorded) for answer in answers)
        assert drafts.drawn == [("a", 1), ("b", 1)]
        assert store.batches == [["first"], ["a", "b"]]


async def test_who_cannot_be_drafted_is_told_and_the_others_are_recorded() -> None:
    store = ToldStore()
    drafts = Drafts(store)
    fault = ValueError("no form")
    async with busy(store) as (queue, first):
        bad, good = begin_draft(queue, drafts.of("bad", fault)), begin_draft(queue, drafts.of("a"))
        await asyncio.sleep(0)
        store.gate.set()
        with pytest.raises(ValueError, match="no form"):
            await bad
        assert isinstance(await good, Recorded) and isinstance(await first, Recorded)
        assert store.batches == [["first"], ["a"]]
        assert queue.depth("committed") == 0
        assert queue.counters.committed.accepted == 3
        assert queue.counters.committed.rejected["error"] == 1


async def test_alone_it_makes_no_batch_and_the_writer_goes_on() -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        with pytest.raises(ValueError, match="no form"):
            await queue.submit_draft("t", Drafts(store).of("bad", ValueError("no form")))
        assert store.attempts == []
        assert isinstance(await queue.submit(intent(call_id="after")), Recorded)
        assert store.batches == [["after"]]


async def test_who_left_or_lost_patience_is_not_drafted() -> None:
    store = ToldStore()
    drafts = Drafts(store)
    async with busy(store, wait_s=0.05) as (queue, first):
        left, late = begin_draft(queue, drafts.of("left")), begin_draft(queue, drafts.of("late"))
        await until(lambda: queue.depth("committed") == 3)
        left.cancel()
        for task in (late, first):
            with pytest.raises(QueueTimeout):
                await task
        store.gate.set()
        assert isinstance(await queue.submit(intent(call_id="after")), Recorded)
        assert drafts.drawn == []
        assert store.written == ["first", "after"]


async def test_a_draft_that_fails_while_draining_holds_nothing_up() -> None:
    store = ToldStore()
    drafts = Drafts(store)
    async with busy(store) as (queue, first):
        bad = begin_draft(queue, drafts.of("bad", ValueError("no form")))
        await asyncio.sleep(0)
        draining = asyncio.get_running_loop().create_task(queue.drain(5.0))
        await asyncio.sleep(0)
        store.gate.set()
        with pytest.raises(ValueError, match="no form"):
            await bad
        assert isinstance(await first, Recorded)
        assert await asyncio.wait_for(draining, 1.0) == 0
