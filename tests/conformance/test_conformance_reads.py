"""Reads, and the life of a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from conformance_setup import assert_chain, draft, grown, intent, outcome, seal

from storage import SqlStore
from storage.errors import StoreUnavailable
from storage.records import Entry, HeadRow, Recorded


async def test_an_unknown_tenant_has_an_empty_head_and_nothing_else(store: SqlStore) -> None:
    assert await store.head("nobody") == HeadRow("nobody", 0, "", 0, "", 0)
    assert await store.receipts("nobody", 0, 10) == []
    assert await store.receipts_of_call("nobody", "c") == []
    assert await store.call_facts("nobody", 1) is None
    assert await store.tenants() == []


async def test_tenants_are_sorted_and_an_identifier_is_case_sensitive(store: SqlStore) -> None:
    await store.record([intent("c1", name) for name in ("b", "B", "a", "ä", "a-1")], seal)
    assert await store.tenants() == sorted(["b", "B", "a", "ä", "a-1"])
    assert (await store.head("A")).seq == 0


async def test_receipts_come_in_pages_oldest_first(store: SqlStore) -> None:
    await store.record([intent(f"c{i}") for i in range(7)] + [intent("x", "rival")], seal)
    pages = [await store.receipts("acme", after, 3) for after in (0, 3, 6, 7)]
    assert [[row.seq for row in page] for page in pages] == [[1, 2, 3], [4, 5, 6], [7], []]
    assert_chain([row for page in pages for row in page], await store.head("acme"))


async def test_a_call_is_found_from_its_beginning_to_its_end(store: SqlStore) -> None:
    refusal = Entry(draft(kind="refusal", call_id="c2"))
    await store.record([intent("c1"), refusal, intent("c3"), intent("c1", "rival")], seal)
    await store.record([outcome("c3"), outcome("c1")], seal)
    kinds = {
        call_id: [(row.kind, row.seq) for row in await store.receipts_of_call("acme", call_id)]
        for call_id in ("c1", "c2", "c3", "c4")
    }
    assert kinds == {
        "c1": [("intent", 1), ("outcome", 5)],
        "c2": [("refusal", 2)],
        "c3": [("intent", 3), ("outcome", 4)],
        "c4": [],
    }
    assert len(await store.receipts_of_call("rival", "c1")) == 1


async def test_what_recovery_records_of_a_call_is_found_by_its_id(store: SqlStore) -> None:
    await store.record([intent("c1")], seal)
    await store.record([Entry(draft(kind="recovery", call_id="c1"), closes="c1")], seal)
    assert [row.kind for row in await store.receipts_of_call("acme", "c1")] == [
        "intent",
        "recovery",
    ]


async def test_open_intents_are_given_by_node_across_tenants(store: SqlStore) -> None:
    batch = [intent("c1", "acme"), intent("c2", "rival"), intent("c3", node_id="other")]
    await store.record(batch, seal)
    assert {row.call_id for row in await store.open_intents("node", 10)} == {"c1", "c2"}
    assert len(await store.open_intents("node", 1)) == 1
    assert [row.call_id for row in await store.open_intents("other", 10)] == ["c3"]


async def test_facts_are_kept_only_where_given(store: SqlStore) -> None:
    await store.record([intent("c1"), Entry(draft(kind="control"))], seal)
    assert await store.call_facts("acme", 1) is not None
    assert await store.call_facts("acme", 2) is None


async def test_everything_is_there_after_opening_again(
    open_it: Callable[[], Awaitable[SqlStore]],
) -> None:
    first = await open_it()
    await first.record([intent("c1", run_step=grown), intent("c2")], seal)
    await first.raise_epoch("acme")
    rows, head = await first.receipts("acme", 0, 10), await first.head("acme")
    await first.close()
    second = await open_it()
    assert (await second.receipts("acme", 0, 10), await second.head("acme")) == (rows, head)
    assert len(await second.open_intents("node", 10)) == 2
    [answer] = await second.record([intent("c3", epoch=1, run_version=1)], seal)
    assert isinstance(answer, Recorded) and answer.seq == 3


async def test_a_probe_commits_and_changes_no_chain(store: SqlStore) -> None:
    commits = store.facts().commits_total
    await store.probe()
    await store.probe()
    assert store.facts().commits_total == commits + 2
    assert await store.tenants() == []


async def test_upkeep_may_be_called_at_any_time(store: SqlStore) -> None:
    for number in range(25):
        await store.record([intent(f"c{number}")], seal)
        await store.after_commit()
    assert (await store.head("acme")).seq == 25


CALLS: dict[str, Callable[[SqlStore], Awaitable[object]]] = {
    "record": lambda store: store.record([intent("c")], seal),
    "raise_epoch": lambda store: store.raise_epoch("acme"),
    "head": lambda store: store.head("acme"),
    "tenants": lambda store: store.tenants(),
    "receipts": lambda store: store.receipts("acme", 0, 1),
    "receipts_of_call": lambda store: store.receipts_of_call("acme", "c"),
    "call_facts": lambda store: store.call_facts("acme", 1),
    "open_intents": lambda store: store.open_intents("node", 1),
    "probe": lambda store: store.probe(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_closed_store_answers_unavailable(store: SqlStore, name: str) -> None:
    await CALLS[name](store)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await CALLS[name](store)
