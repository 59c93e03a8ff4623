"""Load for measuring the write queue: calls of ordinary size, waiting callers, a steady pace.

Calls are made beforehand, so that what is measured is the store and its queue, not the test.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.ledger.chain import seal
from storage import open_store
from storage.records import CallFactsRow, Entry, OpenIntentRow, ReceiptRow, Recorded
from storage.write_queue import WriteQueue

HASH = "0123456789abcdef" * 4
ARGUMENTS = '{"number":7,"owner":"acme","title":"' + "x" * 200 + '"}'
FACTS = '{"matches":[["policy/rule","allow","enforce",null]],"method":"POST","path":"/a/b/c"}'
_numbers = itertools.count(time.time_ns() << 16)


def make_call(tenant_id: str = "load") -> tuple[Entry, Entry]:
    """The intent and the outcome of a call of ordinary size."""
    call_id = f"{next(_numbers):032x}"
    intent = ReceiptRow(
        tenant_id, 0, "intent", call_id, call_id, 1, "agent", None, None, None,
        "up", "up/operation", "tools/call", None, "trusted_internal_unsigned", "allow",
        "enforce", "policy/rule", HASH[:32], HASH[:32], None, None, None, HASH, HASH, None, None,
        "",
    )  # fmt: skip
    outcome = ReceiptRow(
        tenant_id, 0, "outcome", f"{next(_numbers):032x}", call_id, 1, "agent",
        *([None] * 18), "completed", 200, "",
    )  # fmt: skip
    return (
        Entry(
            intent,
            CallFactsRow(tenant_id, 0, HASH, ARGUMENTS, FACTS),
            OpenIntentRow(tenant_id, call_id, "node", "boot"),
        ),
        Entry(outcome, closes=call_id),
    )


@asynccontextmanager
async def queue_on(
    path: Path, on_batch: Callable[[int, float], None] | None = None
) -> AsyncIterator[WriteQueue]:
    """A queue over a real store."""
    store = await open_store(f"sqlite:///{path}", now_us=lambda: time.time_ns() // 1000)
    queue = WriteQueue(
        store,
        seal,
        capacity=8192,
        wait_s=10.0,
        monotonic_ns=time.perf_counter_ns,
        on_batch=on_batch,
    )
    try:
        yield queue
    finally:
        await queue.close()
        await store.close()


async def one_call(queue: WriteQueue, call: tuple[Entry, Entry]) -> None:
    """As the pipeline does it: a place for the outcome, the intent, later the outcome."""
    slot = queue.reserve()
    answer = await queue.submit(call[0])
    assert isinstance(answer, Recorded)
    queue.enqueue(call[1], slot)


async def closed_loop(queue: WriteQueue, callers: int, seconds: float, rate_max: float) -> float:
    """Calls per second with so many callers who call again at once."""
    calls = [make_call() for _ in range(int(rate_max * seconds) + 2 * callers)]
    done = 0
    started = time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while calls and time.perf_counter() < started + seconds:
            await one_call(queue, calls.pop())
            done += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.perf_counter() - started
    assert await queue_is_empty(queue)
    return done / took


async def paced(queue: WriteQueue, rate: float, seconds: float, callers: int = 1024) -> float:
    """Offers `rate` calls per second, whatever becomes of them.

    Gives those done per second, over the last four fifths of the time.
    """
    calls = deque(make_call() for _ in range(int(rate * seconds) + 1))
    loop = asyncio.get_running_loop()
    idle: list[asyncio.Future[bool]] = []
    done = 0

    async def caller() -> None:
        nonlocal done
        while True:
            turn = loop.create_future()
            idle.append(turn)
            if not await turn:
                return
            await one_call(queue, calls.popleft())
            done += 1

    tasks = [asyncio.create_task(caller()) for _ in range(callers)]
    await asyncio.sleep(0)
    started = time.perf_counter()
    sent = 0
    steady_s, done_before = 0.0, 0
    while (passed := time.perf_counter() - started) < seconds:
        if not steady_s and passed > seconds / 5:
            steady_s, done_before = passed, done
        for _ in range(min(int(passed * rate) - sent, len(idle))):
            idle.pop().set_result(True)
            sent += 1
        await asyncio.sleep(0.002)
    achieved = (done - done_before) / (time.perf_counter() - started - steady_s)
    while len(idle) < callers:
        await asyncio.sleep(0.01)
    for turn in idle:
        turn.set_result(False)
    await asyncio.gather(*tasks)
    return achieved


async def queue_is_empty(queue: WriteQueue) -> bool:
    """Waits until everything handed over is durable."""
    for _ in range(1000):
        if not queue.depth("queued") and not queue.depth("committed"):
            return True
        await asyncio.sleep(0.005)
    return False
