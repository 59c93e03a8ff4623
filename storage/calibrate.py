"""A short measurement of the store on this disk, before any traffic tells.

Knows: how to drive a scratch store through a write queue with ever more waiting callers, as a
loaded sidecar does, and to read from it what a commit costs (points for the model) and what a
call costs besides. Once takes well under half a second, unless the disk is slow; for a figure to
keep it is done again and again, and the middle of all rounds is taken.
Must not know: where the scratch store lives, what its entries mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from storage.commit_model import Point
from storage.driver import fetch
from storage.errors import StoreUnavailable
from storage.pressure import ENTRIES_PER_CALL
from storage.records import Entry, Seal
from storage.sql_store import SqlStore
from storage.write_queue import BATCH_MAX, RecordingStore, WriteQueue

#: Waiting callers, calls each, and how long at most to watch them. The last level is the ceiling
#: itself: always more waits than a batch holds, so it gets the most time.
LEVELS = ((1, 50, 0.04), (8, 40, 0.04), (64, 20, 0.06), (BATCH_MAX, 8, 0.25))
WAIT_S = 30.0
#: How often it is looked meanwhile whether what is waited for can still come.
LOOK_S = 0.25

MakeCall = Callable[[], tuple[Entry, Entry]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seeds for the model, and what a call costs at the ceiling beside its batch, in seconds."""

    points: tuple[Point, ...]
    handover_s: float


async def calibrate(
    store: RecordingStore, seal: Seal, make_call: MakeCall, monotonic_ns: Callable[[], int]
) -> Calibration:
    """Measures `store` (a scratch one: what it is given stays in it).

    `make_call` gives a call's intent and its outcome. Raises a StoreError if the store fails.
    """
    points: list[Point] = []
    handover_s = 0.0
    for callers, count, seconds in LEVELS:
        # Made beforehand: what it costs to make a call is no cost of the store.
        calls = [[make_call() for _ in range(count)] for _ in range(callers)]
        point, handover_s = await _measure(store, seal, calls, monotonic_ns, seconds)
        points.append(point)
    return Calibration(tuple(points), handover_s)


async def all_durable(queue: WriteQueue) -> None:
    """Waits until all that was handed over is durable. Raises StoreUnavailable where it does not
    become so, as soon as a commit has failed: what nobody asks for would be tried till the end."""
    for _ in range(int(WAIT_S / LOOK_S)):
        if not await queue.drain(LOOK_S):
            return
        if not queue.healthy:
            break
    raise StoreUnavailable(
        f"what it is measured with is not durable in time: {queue.counters.last_error_code}"
    )


async def engine_settings(store: SqlStore) -> dict[str, str]:
    """The settings that decide what a commit costs, as the store's writer has them.

    Figures measured under others are not this store's. Raises a StoreError.
    """
    script = partial(fetch, store._sql["engine_settings"])
    return {str(name): str(value) for name, value in await store._driver.transaction(script)}


async def calibrate_for(
    store: RecordingStore,
    seal: Seal,
    make_call: MakeCall,
    monotonic_ns: Callable[[], int],
    seconds: float,
) -> Calibration:
    """`calibrate` for about so long, at least once: the middle of each figure over the rounds.

    A neighbour's work that falls into some of the rounds does not move the middle of all.
    """
    rounds: list[Calibration] = []
    until_ns = monotonic_ns() + int(seconds * 1e9)
    while not rounds or monotonic_ns() < until_ns:
        rounds.append(await calibrate(store, seal, make_call, monotonic_ns))
    levels = zip(*(one.points for one in rounds), strict=True)
    return Calibration(
        tuple(
            Point(median(p.calls for p in level), median(p.seconds for p in level))
            for level in levels
        ),
        median(one.handover_s for one in rounds),
    )


async def _measure(
    store: RecordingStore,
    seal: Seal,
    calls: list[list[tuple[Entry, Entry]]],
    monotonic_ns: Callable[[], int],
    seconds: float,
) -> tuple[Point, float]:
    """The mean batch of one level, and the time per call that no batch accounts for."""
    ends_ns: list[int] = []
    batches: list[tuple[int, float]] = []

    def on_batch(entries: int, took_s: float) -> None:
        ends_ns.append(monotonic_ns())
        batches.append((entries, took_s))

    queue = WriteQueue(
        store,
        seal,
        capacity=4 * BATCH_MAX,
        wait_s=WAIT_S,
        monotonic_ns=monotonic_ns,
        on_batch=on_batch,
    )
    until_ns = monotonic_ns() + int(seconds * 1e9)
    first_done_ns = 0

    async def caller(mine: list[tuple[Entry, Entry]]) -> None:
        nonlocal first_done_ns
        for number, (intent, outcome) in enumerate(mine):
            # Each makes one call at least: a process that stood still meanwhile has to start, too.
            if number and monotonic_ns() > until_ns:
                break
            slot = queue.reserve()
            await queue.submit(intent)
            queue.enqueue(outcome, slot)
        first_done_ns = first_done_ns or monotonic_ns()

    try:
        await asyncio.gather(*(caller(mine) for mine in calls))
        await all_durable(queue)
    finally:
        await queue.close()
    steady = _steady([time_ns <= first_done_ns for time_ns in ends_ns])
    committed = sum(entries for entries, _ in batches[steady]) / ENTRIES_PER_CALL
    writing_s = sum(took_s for _, took_s in batches[steady])
    first_ns = ends_ns[steady][0] - int(batches[steady][0][1] * 1e9)
    elapsed_s = (ends_ns[steady][-1] - first_ns) / 1e9
    count = len(batches[steady])
    return Point(committed / count, writing_s / count), max(0.0, elapsed_s - writing_s) / committed


def _steady(in_time: list[bool]) -> slice:
    """The batches between the first, which finds everything cold, and the running out of callers.

    A disk so slow that nothing is left between them is judged by all its batches.
    """
    last = sum(in_time)
    return slice(1, last) if last >= 3 else slice(None)
