"""`record`: one transaction, one answer per entry, an odd entry harms nobody."""

from __future__ import annotations

import pytest
from conformance_setup import UNSEALABLE, assert_chain, draft, intent, outcome, seal

from storage import SqlStore
from storage.records import (
    AlreadyClosed,
    CallFactsRow,
    Entry,
    OpenIntentRow,
    Recorded,
    Unrecordable,
)


async def whole_chain(store: SqlStore, tenant_id: str = "acme") -> list[str]:
    """Checks the tenant's chain and gives the call ids along it."""
    rows = await store.receipts(tenant_id, 0, 10_000)
    assert_chain(rows, await store.head(tenant_id))
    return [str(row.call_id) for row in rows]


async def test_an_intent_is_recorded_with_its_facts_and_stays_open(store: SqlStore) -> None:
    [answer] = await store.record([intent("c1")], seal)
    [row] = await store.receipts("acme", 0, 10)
    assert answer == Recorded(1, row.receipt_hash, 1_000, 0)
    assert (row.kind, row.call_id, row.decision, row.resource) == ("intent", "c1", "allow", None)
    facts = await store.call_facts("acme", 1)
    assert facts == CallFactsRow("acme", 1, "5a17" * 8, '{"a":1}', '{"risk":"low"}')
    assert await store.open_intents("node", 10) == [OpenIntentRow("acme", "c1", "node", "boot")]
    await whole_chain(store)


async def test_every_column_comes_back_as_it_was_given(store: SqlStore) -> None:
    fields = {name: f"{name}-ä€😀" for name in draft()._fields}
    numbers = {"seq": 0, "ts_us": 2**53, "http_status": 599}
    row = draft()._replace(**{**fields, **numbers, "kind": "approval"})  # type: ignore[arg-type]
    [answer] = await store.record([Entry(row)], seal)
    assert isinstance(answer, Recorded)
    [stored] = await store.receipts(row.tenant_id, 0, 10)
    assert stored == row._replace(seq=1, receipt_hash=answer.receipt_hash)
    assert answer.ts_us == 2**53


async def test_an_empty_batch_is_answered_with_nothing(store: SqlStore) -> None:
    assert await store.record([], seal) == []


async def test_answers_stand_in_order_and_every_tenant_has_a_chain_of_its_own(
    store: SqlStore,
) -> None:
    batch = [intent(f"c{i}", f"tenant-{i % 3}") for i in range(9)]
    answers = await store.record(batch, seal)
    assert [answer.seq for answer in answers if isinstance(answer, Recorded)] == [
        1, 1, 1, 2, 2, 2, 3, 3, 3,
    ]  # fmt: skip
    assert await whole_chain(store, "tenant-1") == ["c1", "c4", "c7"]
    await store.record([intent("c9", "tenant-1")], seal)
    assert await whole_chain(store, "tenant-1") == ["c1", "c4", "c7", "c9"]


async def test_an_outcome_closes_its_intent_once(store: SqlStore) -> None:
    await store.record([intent("c1"), intent("c2")], seal)
    [first] = await store.record([outcome("c1")], seal)
    assert isinstance(first, Recorded)
    assert await store.record([outcome("c1")], seal) == [AlreadyClosed("c1")]
    assert [row.call_id for row in await store.open_intents("node", 10)] == ["c2"]
    assert await whole_chain(store) == ["c1", "c2", "c1"]


async def test_a_close_without_an_intent_is_not_sealed_and_its_neighbours_are(
    store: SqlStore,
) -> None:
    await store.record([intent("c1")], seal)
    batch = [intent("c2"), outcome("never"), outcome("c1"), outcome("c1"), intent("c3")]
    answers = await store.record(batch, seal)
    assert [type(answer) for answer in answers] == [
        Recorded, AlreadyClosed, Recorded, AlreadyClosed, Recorded,
    ]  # fmt: skip
    assert await whole_chain(store) == ["c1", "c2", "c1", "c3"]


async def test_an_intent_of_another_tenant_is_not_closed(store: SqlStore) -> None:
    await store.record([intent("c1", "acme")], seal)
    assert await store.record([outcome("c1", "rival")], seal) == [AlreadyClosed("c1")]
    assert len(await store.open_intents("node", 10)) == 1
    assert await store.tenants() == ["acme"]


async def test_a_call_may_begin_and_end_in_one_batch(store: SqlStore) -> None:
    answers = await store.record([intent("c1"), outcome("c1")], seal)
    assert [type(answer) for answer in answers] == [Recorded, Recorded]
    assert await store.open_intents("node", 10) == []
    assert await whole_chain(store) == ["c1", "c1"]


@pytest.mark.parametrize("kind", ["intent", "refusal"])
async def test_a_call_id_begins_one_call_only(store: SqlStore, kind: str) -> None:
    await store.record([intent("c1")], seal)
    twin = Entry(draft(kind=kind, call_id="c1"))
    answers = await store.record([intent("c2"), twin, intent("c3")], seal)
    assert [type(answer) for answer in answers] == [Recorded, Unrecordable, Recorded]
    assert await whole_chain(store) == ["c1", "c2", "c3"]
    assert len(await store.open_intents("node", 10)) == 3


async def test_twins_within_a_batch_leave_one(store: SqlStore) -> None:
    answers = await store.record([intent("c1"), intent("c1"), intent("c2")], seal)
    assert [type(answer) for answer in answers] == [Recorded, Unrecordable, Recorded]
    assert await whole_chain(store) == ["c1", "c2"]


async def test_two_tenants_may_use_the_same_call_id(store: SqlStore) -> None:
    answers = await store.record([intent("c1", "acme"), intent("c1", "rival")], seal)
    assert [type(answer) for answer in answers] == [Recorded, Recorded]


def poisoned() -> dict[str, Entry]:
    """Entries no store can write, each spoilt in another place."""
    good = intent("bad")
    assert good.facts is not None and good.opens is not None
    spoil = {
        "lone surrogate in the receipt": Entry(good.receipt._replace(run_id="\ud800"), good.facts),
        "lone surrogate in the facts": Entry(good.receipt, good.facts._replace(facts="\udfff")),
        "lone surrogate in the intent": Entry(
            good.receipt, good.facts, good.opens._replace(boot_id="\ud800")
        ),
        "integer beyond 64 bits": Entry(good.receipt._replace(http_status=2**64)),
        "a kind nobody knows": Entry(good.receipt._replace(kind="nonsense")),
        "no event id": Entry(good.receipt._replace(event_id=None)),  # type: ignore[arg-type]
        "the seal gives a reason": Entry(good.receipt._replace(resource=UNSEALABLE), good.facts),
    }
    return spoil


@pytest.mark.parametrize("name", poisoned())
async def test_a_poisoned_entry_fails_alone(store: SqlStore, name: str) -> None:
    await store.record([intent("c0")], seal)
    batch = [intent("c1"), outcome("c0"), poisoned()[name], intent("c2", "rival"), intent("c3")]
    answers = await store.record(batch, seal)
    assert [type(answer) for answer in answers] == [
        Recorded, Recorded, Unrecordable, Recorded, Recorded,
    ]  # fmt: skip
    assert isinstance(answers[2], Unrecordable) and answers[2].reason
    assert await whole_chain(store) == ["c0", "c1", "c0", "c3"]
    assert {row.call_id for row in await store.open_intents("node", 10)} == {"c1", "c2", "c3"}
    assert await store.receipts_of_call("acme", "bad") == []


async def test_an_outcome_that_cannot_be_sealed_leaves_its_intent_open(store: SqlStore) -> None:
    await store.record([intent("c1")], seal)
    bad = outcome("c1")
    bad.receipt = bad.receipt._replace(resource=UNSEALABLE)
    [answer] = await store.record([bad], seal)
    assert isinstance(answer, Unrecordable)
    assert len(await store.open_intents("node", 10)) == 1
    [answer] = await store.record([outcome("c1")], seal)
    assert isinstance(answer, Recorded)


async def test_a_seal_that_raises_leaves_nothing_behind(store: SqlStore) -> None:
    await store.record([intent("c1")], seal)

    def broken(heads: object, drafts: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.record([outcome("c1"), intent("c2")], broken)  # type: ignore[arg-type]
    assert await whole_chain(store) == ["c1"]
    assert len(await store.open_intents("node", 10)) == 1
    [answer] = await store.record([outcome("c1")], seal)
    assert isinstance(answer, Recorded)
