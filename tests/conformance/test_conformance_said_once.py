"""What an agent may say only once: put with an entry or not at all, and forgotten in time."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from conformance_setup import OpenStore, assert_chain, draft, intent, seal

from storage import SqlStore
from storage.record_batch import CHANGED
from storage.records import Entry, Recorded, Unrecordable
from storage.standing import OnceRow

FAR_US = 4_000_000_000_000_000
SAID = OnceRow("acme", "coder", "request", "r1", 1, "ab" * 32, "c1", FAR_US)


def saying(row: OnceRow, call_id: str) -> Entry:
    """A call that goes with what was said."""
    return Entry(draft(row.tenant_id, "intent", call_id=call_id), puts=(row,))


async def test_it_is_there_after_opening_again(open_it: OpenStore) -> None:
    store = await open_it()
    (answer,) = await store.record([saying(SAID, "c1")], seal)
    assert isinstance(answer, Recorded)
    await store.close()
    store = await open_it()
    assert await store.said_once("acme", "coder", "request", "r1") == SAID
    for other in (
        ("rival", "coder", "request"),
        ("acme", "bob", "request"),
        ("acme", "coder", "nonce"),
    ):
        assert await store.said_once(*other, "r1") is None


async def test_w9_a_second_saying_takes_its_entry_along_and_nobody_else(store: SqlStore) -> None:
    await store.record([saying(SAID, "c1")], seal)
    again = SAID._replace(call_id="c2", bound="cd" * 32)
    first, second, third = await store.record(
        [intent("c0"), saying(again, "c2"), saying(again._replace(name="r2"), "c3")], seal
    )
    assert isinstance(first, Recorded) and isinstance(third, Recorded), "positive control"
    assert second == Unrecordable(CHANGED)
    assert await store.said_once("acme", "coder", "request", "r1") == SAID
    assert [row.call_id for row in await store.receipts("acme", 0, 9)] == ["c1", "c0", "c3"]


async def test_w9_of_two_in_one_batch_and_of_two_nodes_one_wins(open_it: OpenStore) -> None:
    one = await open_it()
    two = await open_it() if one.has_leases else one
    await one.record([intent("c0")], seal)
    for number in range(6):
        said = SAID._replace(name=f"n{number}")
        answers = await asyncio.gather(
            *(
                store.record(
                    [
                        saying(said._replace(call_id=f"{number}-{n}-{k}"), f"{number}-{n}-{k}")
                        for k in "ab"
                    ],
                    seal,
                )
                for n, store in enumerate((one, two))
            )
        )
        won = [a for batch in answers for a in batch if isinstance(a, Recorded)]
        lost = [a for batch in answers for a in batch if a == Unrecordable(CHANGED)]
        assert (len(won), len(lost)) == (1, 3)
    assert_chain(await one.receipts("acme", 0, 99), await one.head("acme"))


async def test_what_is_over_may_be_said_again_a_version_on(store: SqlStore) -> None:
    await store.record([saying(SAID._replace(until_us=5), "c1")], seal)
    fresh = SAID._replace(version=2, call_id="c2")
    (answer,) = await store.record([saying(fresh, "c2")], seal)
    assert isinstance(answer, Recorded)
    assert await store.said_once("acme", "coder", "request", "r1") == fresh


async def test_what_is_over_is_forgotten_tenant_by_tenant(store: SqlStore) -> None:
    old = SAID._replace(name="old", until_us=5)
    foreign = old._replace(tenant_id="rival")
    await store.record([saying(SAID, "c1"), saying(old, "c2"), saying(foreign, "c3")], seal)
    assert await store.forget_said("acme", 6) == 1
    assert await store.forget_said("acme", 6) == 0
    assert await store.said_once("acme", "coder", "request", "old") is None
    assert await store.said_once("acme", "coder", "request", "r1") == SAID, "positive control"
    assert await store.said_once("rival", "coder", "request", "old") == foreign


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_g3_rows_of_another_tenant_are_behind_the_second_wall(
    open_it: OpenStore, store_url: str
) -> None:
    store = await open_it()
    await store.record([saying(SAID, "c1")], seal)
    connection = await asyncpg.connect(store_url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', 'rival', false)")
        assert await connection.fetch("SELECT * FROM said_once") == []
        await connection.execute("SELECT set_config('aegis.tenants', 'acme', false)")
        assert len(await connection.fetch("SELECT * FROM said_once")) == 1, "positive control"
    finally:
        await connection.close()
