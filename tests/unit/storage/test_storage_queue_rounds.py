"""Between two batches: who was told goes on, and what is ready rides in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from storage_queue_setup import ToldStore, begin, intent, seal, told_queue, until

from storage import rounds
from storage.records import Answer
from storage.write_queue import WriteQueue


async def turns_of_the_loop(count: int) -> None:
    """So often the loop goes round, as it does between a call's answer and the next call."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_was_told_goes_before_the_upkeep() -> None:
    order: list[str] = []

    class Noting(ToldStore):
        async def after_commit(self) -> None:
            order.append("upkeep")

    async with told_queue(Noting()) as queue:
        await queue.submit(intent())
        order.append("told")
        await until(lambda: "upkeep" in order)
    assert order[:2] == ["told", "upkeep"]


async def calls_in_turn(queue: WriteQueue, away: Sequence[int], turns: int) -> None:
    """Callers that are back at the queue so many rounds after they were told."""

    async def caller(rounds_away: int) -> None:
        for _ in range(turns):
            await queue.submit(intent())
            await turns_of_the_loop(rounds_away)

    await asyncio.gather(*map(caller, away))


@pytest.mark.parametrize("is_planted", [False, True], ids=["as it is", "planted: no rounds"])
async def test_callers_that_come_back_apart_ride_together(
    monkeypatch: pytest.MonkeyPatch, is_planted: bool
) -> None:
    """The second case shows that the first can fail: each of them then has a batch of its own."""
    if is_planted:
        monkeypatch.setattr(rounds, "ROUNDS_MAX", 0)
    store = ToldStore()
    async with told_queue(store) as queue:
        await calls_in_turn(queue, [0, 1, 2, 3], turns=10)
    sizes = [len(batch) for batch in store.batches]
    assert sum(sizes) == 40
    assert (len(sizes) <= 11) != is_planted


async def test_a_round_that_brings_something_is_followed_by_another() -> None:
    """Longer than the least, as long as the loop is busy with calls that come."""
    store = ToldStore()
    late: list[asyncio.Task[Answer]] = []
    async with told_queue(store) as queue:

        async def come_one_by_one() -> None:
            for _ in range(2 * rounds.ROUNDS_MIN):
                late.append(begin(queue, intent()))
                await asyncio.sleep(0)

        await queue.submit(intent())
        await asyncio.gather(come_one_by_one())
        await asyncio.gather(*late)
    assert [len(batch) for batch in store.batches] == [1, 2 * rounds.ROUNDS_MIN]


class Coming:
    """Lets a call come in every round until it is stopped."""

    def __init__(self, queue: WriteQueue) -> None:
        self._queue = queue
        self.tasks: list[asyncio.Task[Answer]] = []
        self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            self.tasks.append(begin(self._queue, intent()))
            await asyncio.sleep(0)
        await asyncio.gather(*self.tasks)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ROUNDS_MAX", 6), ("WAITING_MAX", 6), ("TOOK_NS_MAX", 6_000)],
)
async def test_calls_that_never_cease_do_not_hold_up_those_that_wait(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: int
) -> None:
    """Each limit ends it alone."""
    for name in ("ROUNDS_MAX", "WAITING_MAX", "TOOK_NS_MAX"):
        monkeypatch.setattr(rounds, name, 1 << 40)
    monkeypatch.setattr(rounds, setting, value)
    store, now_ns = ToldStore(), iter(range(0, 1 << 40, 1_000))
    queue = WriteQueue(
        store,
        seal,  # type: ignore[arg-type]
        capacity=10_000,
        wait_s=5.0,
        monotonic_ns=lambda: next(now_ns),
    )
    coming = Coming(queue)
    running = asyncio.get_running_loop().create_task(coming.run())
    await until(lambda: len(store.batches) > 3)
    coming.is_over = True
    await running
    await queue.close()
    assert max(len(batch) for batch in store.batches[:4]) <= 12


async def test_a_queue_that_drains_goes_round_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never end here; there is nobody to wait for."""
    for name in ("ROUNDS_MIN", "ROUNDS_MAX", "WAITING_MAX", "TOOK_NS_MAX"):
        monkeypatch.setattr(rounds, name, 1 << 40)
    store = ToldStore()
    async with asyncio.timeout(3), told_queue(store) as queue:
        store.gate.clear()
        last = begin(queue, intent())
        await store.entered.wait()
        drained = asyncio.get_running_loop().create_task(queue.drain(2.0))
        await asyncio.sleep(0)
        store.gate.set()
        await last
        assert await drained == 0
        await until(lambda: store.upkeeps == 1)
