"""What a call writes, and how callers drive a store with it: shared by the store's benchmarks.

A call is its intent (receipt, 300 bytes of arguments, facts, an open intent, the guard that the
product gives it) and, later, its outcome (receipt, the intent closed). Must not know: engines.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from statistics import median

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.records import CallFactsRow, Entry, OpenIntentRow, ReceiptRow, Recorded
from storage.sql_store import SqlStore
from storage.write_queue import WriteQueue

ARGUMENTS_BYTES = 300
_GIVEN = '{"labels":["ops","night"],"number":1207,"owner":"acme","repo":"web","text":"'
ARGUMENTS = _GIVEN + "x" * (ARGUMENTS_BYTES - len(_GIVEN) - 2) + '"}'
FACTS = '{"http":{"method":"POST","path":"/","source_ip":"127.0.0.1"},"tool":{"mutates":true}}'
HASH = "ab" * 32
TENANT = "default"
#: As sidecar/app.py sets them; importing it would bring the whole sidecar into small processes.
SWITCH_INTERVAL_S = 0.0005
GC_THRESHOLD = 50_000


def as_the_sidecar() -> None:
    """The settings of the interpreter that a running sidecar has."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_THRESHOLD)


def intent(clock: Clock, tenant: str = TENANT) -> Entry:
    call_id = clock.new_id()
    receipt = ReceiptRow(
        tenant, 0, "intent", call_id, call_id, clock.now_us(), "agent", None, None, None,
        "tools", "tools/tool_42", "tools/call", None, "trusted_internal_unsigned", "allow",
        "enforce", "bench/r42", HASH[:32], HASH[:32], None, None, None, HASH, HASH, None, None, "",
    )  # fmt: skip
    return Entry(
        receipt,
        facts=CallFactsRow(tenant, 0, HASH, ARGUMENTS, FACTS),
        opens=OpenIntentRow(tenant, call_id, "node", "boot"),
        epoch=0,
    )


def outcome(clock: Clock, call_id: str, tenant: str = TENANT) -> Entry:
    receipt = ReceiptRow(
        tenant, 0, "outcome", clock.new_id(), call_id, clock.now_us(), "agent",
        *([None] * 18), "completed", 200, "",
    )  # fmt: skip
    return Entry(receipt, closes=call_id)


def call(clock: Clock, tenant: str = TENANT) -> tuple[Entry, Entry]:
    """A call's intent and its outcome."""
    begins = intent(clock, tenant)
    return begins, outcome(clock, str(begins.receipt.call_id), tenant)


async def drive(
    store: SqlStore,
    clock: Clock,
    callers: int,
    seconds: float,
    tenants: tuple[str, ...] = (TENANT,),
    calls_max: int | None = None,
) -> float:
    """Calls/s of so many waiting callers, each with its next call as soon as one is durable; over
    the time until the last outcome is durable too."""
    queue = WriteQueue(store, seal, capacity=4096, wait_s=30, monotonic_ns=clock.monotonic_ns)
    done = 0
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal done
        turn = number
        while time.perf_counter() < until and (calls_max is None or done < calls_max):
            turn += 1
            slot = queue.reserve()
            begins = intent(clock, tenants[turn % len(tenants)])
            answer = await queue.submit(begins)
            if not isinstance(answer, Recorded):
                raise RuntimeError(f"not recorded: {answer}")
            receipt = begins.receipt
            queue.enqueue(outcome(clock, str(receipt.call_id), receipt.tenant_id), slot)
            done += 1

    started = time.perf_counter()
    try:
        await asyncio.gather(*(caller(number) for number in range(callers)))
        if await queue.drain(30):
            raise RuntimeError("not everything was recorded in 30 s")
    finally:
        await queue.close()
    return done / (time.perf_counter() - started)


async def alternate(
    slices: dict[str, Callable[[], Awaitable[float]]], rounds: int
) -> dict[str, list[float]]:
    """Every slice once in each round, every other round backwards: what disturbs the machine
    for a while, or grows worse with time, disturbs them all."""
    seen: dict[str, list[float]] = {name: [] for name in slices}
    for number in range(rounds):
        for name in reversed(slices) if number % 2 else slices:
            seen[name].append(await slices[name]())
    return seen


def ratio(of: list[float], to: list[float]) -> float:
    """The median of the rounds' ratios."""
    return round(median(one / other for one, other in zip(of, to, strict=True)), 3)


def spread(of: list[float], to: list[float]) -> list[float]:
    """The smallest and the largest of the rounds' ratios."""
    ratios = sorted(one / other for one, other in zip(of, to, strict=True))
    return [round(ratios[0], 3), round(ratios[-1], 3)]


@contextmanager
def frozen() -> Iterator[None]:
    """What was made beforehand must not be what the collector looks through meanwhile."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
