"""Pages of receipts with their facts: bounded by bytes as well as by rows, nothing left out."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest
from conformance_setup import OpenStore, draft, intent, outcome, seal

from storage import SqlStore
from storage.driver import execute_many
from storage.records import PAGE_BYTES, CallFactsRow, Entry, Recorded, RecordedEvent
from storage.retention import CareReader, Retention

MIB = 1024 * 1024
#: What arguments are made of: one byte of UTF-8 a letter, and more.
LETTERS = ("x", "ü", "語", "🙂")


def entry_of(number: int, arguments: str | None) -> Entry:
    """An intent with such arguments; without any, something that has no facts."""
    if arguments is None:
        return Entry(draft("acme", "control", call_id=None))
    made = intent(f"c{number}")
    made.facts = CallFactsRow("acme", 0, "5a17", arguments, '{"risk":"low"}')
    return made


async def put(store: SqlStore, *arguments: str | None) -> None:
    for at in range(0, len(arguments), 20):
        entries = [entry_of(at + n, one) for n, one in enumerate(arguments[at : at + 20])]
        answers = await store.record(entries, seal)
        assert all(isinstance(answer, Recorded) for answer in answers)


def size_of(event: RecordedEvent) -> int:
    facts = event.facts
    return 0 if facts is None else len(((facts.arguments or "") + facts.facts).encode())


def wanted(events: list[RecordedEvent], limit: int, bytes_max: int) -> list[RecordedEvent]:
    """What a page of these is: up to the first that reaches the bound."""
    taken = 0
    for count, event in enumerate(events[:limit], 1):
        taken += size_of(event)
        if taken >= bytes_max:
            return events[:count]
    return events[:limit]


def any_arguments(rng: random.Random, most: int) -> str | None:
    """Mostly small, some of them large; a fifth has none."""
    if rng.random() < 0.2:
        return None
    return rng.choice(LETTERS) * rng.choice((0, 1, rng.randrange(100), rng.randrange(most)))


@pytest.mark.parametrize("seed", range(4))
async def test_pages_end_where_bytes_do_and_leave_nothing_out(
    open_it: OpenStore, seed: int
) -> None:
    rng, store = random.Random(seed), await open_it()
    await put(store, *(any_arguments(rng, 3_000) for _ in range(120)))
    await Retention(store).erase("acme", [7, 8, 30, 31, 90])
    whole = await store.recorded_after("acme", 0, 1000)
    assert [event.receipt.seq for event in whole] == list(range(1, 121)), "positive control"
    ended_early = 0
    for _ in range(12):
        limit, bytes_max = rng.choice((1, 2, 7, 64, 1000)), rng.choice((1, 50, 3_000, 40_000, MIB))
        read: list[RecordedEvent] = []
        while page := await store.recorded_after("acme", len(read), limit, bytes_max):
            assert page == wanted(whole[len(read) :], limit, bytes_max), (limit, bytes_max)
            ended_early += len(page) < min(limit, len(whole) - len(read))
            read += page
        assert read == whole
    assert ended_early > 10, "positive control: the bound was met"


@pytest.mark.parametrize("gone", [("delete_receipts",), ("delete_receipts", "delete_facts")])
async def test_a_gap_in_the_chain_hides_no_large_facts_and_no_receipts(
    store: SqlStore, gone: tuple[str, ...]
) -> None:
    await put(store, *("x" * 1_000 for _ in range(40)))
    for name in gone:
        script = partial(execute_many, store._sql[name], [("acme", 2, 30)])
        await store._driver.transaction(script)
    pages, after = [], 0
    while page := await store.recorded_after("acme", after, 8, 2_500):
        pages.append([event.receipt.seq for event in page])
        after = pages[-1][-1]
    assert [seq for page in pages for seq in page] == [1, 2, *range(31, 41)]
    assert max(len(page) for page in pages) == 3


async def peak_of(reading: Callable[[], object]) -> tuple[int, int]:
    """Events read, and the most memory that took meanwhile."""
    tracemalloc.start()
    try:
        events = await reading()  # type: ignore[misc]
        return len(events), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_what_stands_after_the_page_takes_no_memory(store: SqlStore) -> None:
    await put(store, *("x" * MIB for _ in range(24)))
    assert await store.recorded_after("acme", 0, 1), "connections and statements are made"
    count, peak = await peak_of(partial(store.recorded_after, "acme", 0, 256, 2 * MIB))
    assert count == 2
    assert peak < 12 * MIB
    count, peak = await peak_of(partial(store.recorded_after, "acme", 0, 256, 64 * MIB))
    assert count == 24
    assert peak > 20 * MIB, "positive control"
    assert len(await store.recorded_after("acme", 0, 256)) == PAGE_BYTES // MIB, "as usual"


async def test_a_word_is_looked_for_in_facts_and_not_in_arguments(store: SqlStore) -> None:
    care, said = CareReader(store), []
    for number, (arguments, facts) in enumerate(
        (('"abc1"', "{}"), (None, '{"mcp":"abc1"}'), ("1", '{"mcp":"abc2"}'), ("1", '{"x":"abc1"}'))
    ):
        made = intent(f"c{number}")
        made.facts = CallFactsRow("acme", 0, "5a17", arguments, facts)
        said.append(made)
    await store.record([*said, outcome("c0")], seal)
    assert await care.facts_saying("acme", 0, 9, "abc1") == [
        (4, '{"x":"abc1"}'),
        (2, '{"mcp":"abc1"}'),
    ]
    assert await care.facts_saying("acme", 2, 3, "abc1") == []
    assert await care.facts_saying("rival", 0, 9, "abc1") == []
