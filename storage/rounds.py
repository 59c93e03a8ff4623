"""Rounds of the event loop between two batches, so that what is ready rides in one.

Knows: that a batch costs as much as several calls, and that a call which was told of its commit
takes a few rounds to be back, or to make room for another: whoever begins the next batch at once
begins it nearly empty, and all that comes a moment later waits for another sync. Rounds, and no
timer: where nothing is ready they take microseconds. With 8 and 32 calls at once a call costs 21
and 17 % less CPU; at half of what the sidecar carries the median waits a third less.
Must not know: what is recorded, how a batch is put together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

#: The loop goes round until a round brings nothing new, so often at least and at most.
ROUNDS_MIN: Final = 8
ROUNDS_MAX: Final = 32
#: Whoever waits already does not wait for more than this, nor where a batch is worth its cost.
TOOK_NS_MAX: Final = 10_000_000
WAITING_MAX: Final = 32


class _Lane(Protocol):
    @property
    def depth(self) -> int: ...


async def go_round(waited_for: _Lane, others: _Lane, now_ns: Callable[[], int]) -> int:
    """Lets the loop go round; gives how long that took, in nanoseconds. `waited_for` holds what
    somebody waits for."""
    begun_ns, took_ns, rounds = now_ns(), 0, 0
    is_quiet = False
    while not is_quiet or rounds < ROUNDS_MIN:
        waiting = waited_for.depth + others.depth
        await asyncio.sleep(0)
        rounds += 1
        is_quiet = waited_for.depth + others.depth == waiting
        took_ns = now_ns() - begun_ns
        if waited_for.depth >= WAITING_MAX or rounds >= ROUNDS_MAX or took_ns > TOOK_NS_MAX:
            break
    return took_ns
