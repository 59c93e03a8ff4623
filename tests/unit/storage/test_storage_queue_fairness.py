"""Whose turn it is: tenants take turns when more waits than fits, and outcomes get their share."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from storage_queue_setup import ToldStore, begin, intent, outcome, told_queue

from storage.lanes import Lane, shares

TENANTS = st.lists(st.sampled_from("abcd"), max_size=60)


def filled(tenants: list[str]) -> Lane[tuple[str, int]]:
    lane: Lane[tuple[str, int]] = Lane()
    for number, tenant in enumerate(tenants):
        lane.add(tenant, (tenant, number))
    return lane


@given(TENANTS, st.integers(1, 20))
def test_everything_is_taken_once_and_in_order_within_a_tenant(
    tenants: list[str], count_max: int
) -> None:
    lane = filled(tenants)
    taken: list[tuple[str, int]] = []
    while lane.depth:
        batch = lane.take(count_max)
        assert 0 < len(batch) <= count_max
        taken += batch
    assert sorted(number for _, number in taken) == list(range(len(tenants)))
    for tenant in "abcd":
        numbers = [number for of, number in taken if of == tenant]
        assert numbers == sorted(numbers)


@given(TENANTS, st.integers(1, 20))
def test_no_tenant_gets_two_more_than_another_that_still_waits(
    tenants: list[str], count_max: int
) -> None:
    lane = filled(tenants)
    if lane.depth <= count_max:
        return
    waited = Counter(tenants)
    got = Counter(tenant for tenant, _ in lane.take(count_max))
    for tenant, other in ((t, o) for t in waited for o in waited):
        if got[tenant] < waited[tenant]:
            assert got[other] <= got[tenant] + 1


@given(TENANTS, st.integers(1, 20))
def test_what_is_put_back_comes_first_again(tenants: list[str], count_max: int) -> None:
    lane = filled(tenants)
    batch = lane.take(count_max)
    lane.put_back((item[0], item) for item in batch)
    assert lane.depth == len(tenants)
    taken = lane.take(len(tenants) or 1)
    for tenant in "abcd":
        numbers = [number for of, number in taken if of == tenant]
        assert numbers == sorted(numbers)


@given(TENANTS, st.data())
def test_removing_takes_out_exactly_that_item(tenants: list[str], data: st.DataObject) -> None:
    lane = filled(tenants)
    if not tenants:
        assert not lane.remove("a", ("a", 0))
        return
    number = data.draw(st.integers(0, len(tenants) - 1))
    item = next(i for i in filled(tenants).take(len(tenants)) if i[1] == number)
    own = [i for i in lane.take(len(tenants)) if i != item]
    lane = filled(tenants)
    # Identity, not equality, is what tells items apart: an equal stranger is not found.
    assert not lane.remove(item[0], (item[0], -1))
    theirs = {i[1]: i for i in lane.take(len(tenants))}
    lane.put_back((i[0], i) for i in theirs.values())
    assert lane.remove(item[0], theirs[number])
    assert not lane.remove(item[0], theirs[number])
    assert sorted(lane.take(len(tenants))) == sorted(own)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(2, 512))
def test_shares_fill_the_batch_and_starve_no_lane(
    committed: int, queued: int, count_max: int
) -> None:
    for_committed, for_queued = shares(committed, queued, count_max)
    assert for_committed <= committed and for_queued <= queued
    assert for_committed + for_queued == min(committed + queued, count_max)
    assert for_committed >= min(committed, count_max // 2)
    assert for_queued >= min(queued, count_max // 2)


async def test_a_noisy_tenant_does_not_delay_a_quiet_one() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, capacity=2000, batch_max=16) as queue:
        first = begin(queue, intent("noisy"))
        await store.entered.wait()
        noisy = [begin(queue, intent("noisy")) for _ in range(1000)]
        await asyncio.sleep(0)
        quiet = begin(queue, intent("quiet"))
        await asyncio.sleep(0)
        store.gate.set()
        await quiet
        # The one that was running, and the one that the quiet tenant rode in.
        assert len(store.batches) <= 3
        assert sum(task.done() for task in noisy) < 50
        await asyncio.gather(first, *noisy)


async def test_waiting_calls_do_not_starve_outcomes() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store, capacity=2000, batch_max=16) as queue:
        first = begin(queue, intent())
        await store.entered.wait()
        waiting = [begin(queue, intent()) for _ in range(500)]
        await asyncio.sleep(0)
        for _ in range(8):
            queue.enqueue(outcome(), queue.reserve())
        store.gate.set()
        await asyncio.gather(first, *waiting)
        kinds = [name[:7] for name in store.batches[1]]
        assert kinds.count("outcome") == 8
        assert len(kinds) == 16
