"""Buckets of limits in the store: taken in the transaction of the intent, by one at a time, all or
none; without room something else is recorded in its place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import pytest
from conformance_setup import (
    UNSEALABLE,
    OpenStore,
    assert_chain,
    draft,
    grown,
    intent,
    outcome,
    run,
    seal,
)

from storage import SqlStore, open_store
from storage.records import (
    AlreadyClosed,
    Entry,
    Full,
    NoRoom,
    Recorded,
    Reservation,
    Reservations,
    Room,
    Stale,
    Unrecordable,
)
from storage.write_queue import WriteQueue

AT_US = 1_790_000_000_000_000


def counted(most: int, amount: int, state: str, at_us: int) -> Room | Full:
    """A bucket that never empties: its state is how much is in it."""
    used = int(state or 0)
    return Room(str(used + amount), at_us + 1) if used + amount <= most else Full(used, 60 * used)


def reserve(call_id: str, *amounts: tuple[str, int, int], instead: str = "refusal") -> Entry:
    """An intent that takes (bucket, amount, most) of limits."""

    def other(position: int, full: Full) -> Entry:
        row = draft(
            kind=instead, call_id=call_id, agent_id="agent", outcome=f"{position}: {full.used}"
        )
        entry = Entry(row)
        if instead == "intent":
            entry.opens = whole.opens
        return entry

    whole = intent(call_id, epoch=0)
    wanted = [
        Reservation("limit", bucket, partial(counted, most, amount))
        for bucket, amount, most in amounts
    ]
    whole.reserves = Reservations(wanted, AT_US, other)
    return whole


async def states(store: SqlStore) -> dict[str, str]:
    rows = await store._reads.fetch(store._sql["move_buckets"])
    return {row[2]: row[3] for row in rows}


async def test_d9_a_budget_is_taken_by_one_after_the_other(store: SqlStore) -> None:
    answers = await store.record([reserve(f"c{n}", ("a", 4, 10)) for n in range(4)], seal)
    assert [type(answer) for answer in answers] == [Recorded, Recorded, NoRoom, NoRoom]
    for answer in answers[2:]:
        assert isinstance(answer, NoRoom)
        assert (answer.position, answer.full) == (0, Full(8, 480))
        assert answer.entry.receipt.kind == "refusal"
    [fits] = await store.record([reserve("c4", ("a", 2, 10))], seal)
    assert isinstance(fits, Recorded), "positive control: what still fits goes in"
    rows = await store.receipts("acme", 0, 10)
    kinds = [(row.call_id, row.kind, row.outcome) for row in rows]
    assert kinds == [
        ("c0", "intent", None), ("c1", "intent", None), ("c2", "refusal", "0: 8"),
        ("c3", "refusal", "0: 8"), ("c4", "intent", None),
    ]  # fmt: skip
    assert [row.call_id for row in await store.open_intents("node", 9)] == ["c0", "c1", "c4"]
    assert_chain(rows, await store.head("acme"))
    assert await states(store) == {"a": "10"}


async def test_d9_a_refused_one_takes_of_no_bucket(store: SqlStore) -> None:
    """And of several without room the one that is full for longest is named."""
    await store.record([reserve("c0", ("a", 5, 10), ("b", 9, 10), ("c", 7, 10))], seal)
    [answer] = await store.record([reserve("c1", ("a", 5, 10), ("c", 4, 10), ("b", 4, 10))], seal)
    assert isinstance(answer, NoRoom) and (answer.position, answer.full.used) == (2, 9)
    assert await states(store) == {"a": "5", "b": "9", "c": "7"}
    [twice] = await store.record([reserve("c2", ("a", 3, 10), ("a", 3, 10))], seal)
    assert isinstance(twice, NoRoom), "one call may count twice in a bucket"
    [answer] = await store.record([reserve("c3", ("a", 3, 10), ("a", 2, 10))], seal)
    assert isinstance(answer, Recorded)
    assert (await states(store))["a"] == "10"


async def test_a_stale_one_takes_nothing_and_is_asked_nothing(store: SqlStore) -> None:
    entry = reserve("c0", ("a", 5, 10))
    entry.epoch = 7
    [answer] = await store.record([entry], seal)
    assert answer == Stale(0, None)
    assert await states(store) == {}


async def test_what_is_recorded_instead_may_be_an_intent(store: SqlStore) -> None:
    entry = reserve("c0", ("a", 11, 10), instead="intent")
    entry.run_step = grown
    [answer] = await store.record([entry], seal)
    assert isinstance(answer, NoRoom) and answer.entry.opens is not None
    assert [row.call_id for row in await store.open_intents("node", 9)] == ["c0"]
    assert await store.run_head("acme", "agent") == run(0), "its step is its own, and it has none"
    [ended] = await store.record([outcome("c0")], seal)
    assert isinstance(ended, Recorded)


async def test_odd_neighbours_do_not_move_a_budget(store: SqlStore) -> None:
    """Entry by entry, in savepoints, the same comes out as all together."""
    await store.record([reserve("c0", ("a", 4, 10))], seal)
    odd = reserve("c3", ("a", 1, 10))
    odd.receipt = odd.receipt._replace(resource=UNSEALABLE)
    batch = [
        outcome("never-began"), reserve("c1", ("a", 4, 10)), odd, reserve("c0", ("a", 1, 10)),
        reserve("c2", ("a", 4, 10)), reserve("c4", ("a", 2, 10)),
    ]  # fmt: skip
    answers = await store.record(batch, seal)
    assert [type(answer) for answer in answers] == [
        AlreadyClosed, Recorded, Unrecordable, Unrecordable, NoRoom, Recorded,
    ]  # fmt: skip
    assert await states(store) == {"a": "10"}
    assert_chain(await store.receipts("acme", 0, 20), await store.head("acme"))


async def test_d9_five_hundred_at_once_never_overshoot(open_it: OpenStore, store_url: str) -> None:
    """Through queues; on a server from two nodes that take turns."""
    stores = [await open_it()]
    if store_url.startswith("postgresql"):
        other = await open_store(store_url, now_us=lambda: AT_US, node_id="other")
        stores.append(other)
    queues = [
        WriteQueue(
            store, seal, capacity=1024, wait_s=20.0, monotonic_ns=time.perf_counter_ns, batch_max=40
        )
        for store in stores
    ]
    try:
        answers: Sequence[object] = await asyncio.gather(
            *(
                queues[n % len(queues)].submit(reserve(f"c{n}", ("a", 7, 1000), ("b", 1, 400)))
                for n in range(500)
            )
        )
    finally:
        for queue in queues:
            await queue.drain(5.0)
            await queue.close()
    taken = sum(isinstance(answer, Recorded) for answer in answers)
    assert taken == 142, "as many as fit, and no more"
    assert sum(isinstance(answer, NoRoom) for answer in answers) == 358
    assert await states(stores[0]) == {"a": "994", "b": "142"}
    rows = await stores[0].receipts("acme", 0, 1000)
    assert sum(row.kind == "intent" for row in rows) == 142
    assert_chain(rows, await stores[0].head("acme"))
    for store in stores[1:]:
        await store.close()


async def test_d9_a_restart_keeps_what_was_taken(open_it: OpenStore) -> None:
    first = await open_it()
    await first.record([reserve("c0", ("a", 9, 10))], seal)
    await first.close()
    again = await open_it()
    [answer] = await again.record([reserve("c1", ("a", 2, 10))], seal)
    assert isinstance(answer, NoRoom) and answer.full.used == 9


async def test_tenants_do_not_share_buckets(store: SqlStore) -> None:
    entry = reserve("c0", ("a", 10, 10))
    rival = reserve("c1", ("a", 10, 10))
    rival.receipt = rival.receipt._replace(tenant_id="rival")
    rival.facts = rival.opens = None
    answers = await store.record([entry, rival], seal)
    assert [type(answer) for answer in answers] == [Recorded, Recorded]


async def test_a_bucket_that_says_nothing_any_more_is_forgotten(
    store: SqlStore, store_url: str
) -> None:
    """By the server's clock where there is one: then nobody's else counts."""
    is_server = store_url.startswith("postgresql")
    now_us = time.time_ns() // 1000

    def until(until_us: int, state: str, at_us: int) -> Room:
        assert abs(at_us - (now_us if is_server else AT_US)) < 60_000_000
        return Room("1", until_us)

    hour_us = 3_600_000_000
    moment_us = now_us if is_server else AT_US
    for number, until_us in enumerate((moment_us - hour_us, moment_us + hour_us)):
        entry = reserve(f"c{number}")
        take = partial(until, until_us)
        refuse = entry.reserves.instead  # type: ignore[union-attr]
        entry.reserves = Reservations([Reservation("l", f"b{number}", take)], AT_US, refuse)
        await store.record([entry], seal)
    assert await store.drop_idle_buckets(AT_US) == 1
    assert list(await states(store)) == ["b1"]
    assert await store.drop_idle_buckets(AT_US) == 0


@pytest.mark.parametrize("caller_waits", [True, False])
async def test_what_a_caller_gave_up_on_is_told_of_as_it_was_recorded(
    store: SqlStore, caller_waits: bool
) -> None:
    told: list[tuple[Entry, Recorded]] = []
    queue = WriteQueue(
        store, seal, capacity=16, wait_s=5.0, monotonic_ns=time.perf_counter_ns,
        on_abandoned=lambda entry, recorded: told.append((entry, recorded)),
    )  # fmt: skip
    try:
        waiting = asyncio.ensure_future(
            queue.submit(reserve("c0", ("a", 11, 10), instead="intent"))
        )
        for _ in range(200):
            await asyncio.sleep(0)
            if queue._pump.running[0]:
                break
        if not caller_waits:
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await queue.drain(5.0)
    finally:
        await queue.close()
    if caller_waits:
        assert told == []
    else:
        [(entry, recorded)] = told
        assert entry.receipt.outcome == "0: 0" and entry.opens is not None
        assert recorded.seq == 1
