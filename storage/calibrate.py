"""A short measurement of the store on this disk, before any traffic tells.

Knows: how to drive a scratch store through a write queue with ever more waiting callers, as a
loaded sidecar does, and to read from it what a commit costs (points for the model) and what a
call costs on the event loop's side of the queue. Takes well under half a second.
Must not know: where the scratch store lives, what its entries mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from storage.pressure import ENTRIES_PER_CALL, Point
from storage.records import Entry, Seal
from storage.write_queue import RecordingStore, WriteQueue

CALLERS = (1, 8, 64, 512)
LEVEL_S = 0.08
ROUNDS_MAX = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seeds for the model, and the hand-over cost per call in seconds."""

    points: tuple[Point, ...]
    handover_s: float


async def calibrate(
    store: RecordingStore,
    seal: Seal,
    make_call: Callable[[], tuple[Entry, Entry]],
    monotonic_ns: Callable[[], int],
) -> Calibration:
    """Measures `store` (a scratch one: what it is given stays in it).

    `make_call` gives a call's intent and its outcome.
    """
    points: list[Point] = []
    handover_s = 0.0
    for callers in CALLERS:
        seen: list[tuple[int, float]] = []
        queue = WriteQueue(
            store,
            seal,
            capacity=4 * max(CALLERS),
            wait_s=10.0,
            monotonic_ns=monotonic_ns,
            on_batch=lambda entries, seconds, seen=seen: seen.append((entries, seconds)),  # type: ignore[misc]
        )
        started_ns = monotonic_ns()
        await _drive(queue, callers, make_call, monotonic_ns)
        await queue.drain(5.0)
        elapsed_s = (monotonic_ns() - started_ns) / 1e9
        await queue.close()
        entries = sum(size for size, _ in seen)
        writing_s = sum(seconds for _, seconds in seen)
        calls = entries / ENTRIES_PER_CALL
        points.append(Point(calls / len(seen), writing_s / len(seen)))
        handover_s = max(0.0, elapsed_s - writing_s) / calls
    return Calibration(tuple(points), handover_s)


async def _drive(
    queue: WriteQueue,
    callers: int,
    make_call: Callable[[], tuple[Entry, Entry]],
    monotonic_ns: Callable[[], int],
) -> None:
    until_ns = monotonic_ns() + int(LEVEL_S * 1e9)

    async def caller() -> None:
        for _ in range(ROUNDS_MAX):
            slot = queue.reserve()
            intent, outcome = make_call()
            await queue.submit(intent)
            queue.enqueue(outcome, slot)
            if monotonic_ns() > until_ns:
                return

    await asyncio.gather(*(caller() for _ in range(callers)))
