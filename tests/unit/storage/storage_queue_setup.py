"""A store that does as it is told, for the tests of the write queue.

It keeps batches in memory, stops at a gate, fails on demand. It imitates no database: what
must hold on a real one is tested on a real one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from storage.records import Answer, Entry, OpenIntentRow, ReceiptRow, Recorded, Sealed
from storage.write_queue import WriteQueue

_numbers = itertools.count(1)


def seal(heads: object, drafts: Sequence[ReceiptRow]) -> Sealed:
    """Never called by the told store."""
    raise AssertionError(heads, drafts)


def intent(tenant_id: str = "t", call_id: str | None = None) -> Entry:
    """An entry somebody waits for."""
    call_id = call_id or f"call{next(_numbers)}"
    receipt = ReceiptRow(tenant_id, 0, "intent", call_id, call_id, 1, *[None] * 21, "")  # type: ignore[arg-type]
    return Entry(receipt, opens=OpenIntentRow(tenant_id, call_id, "node", "boot"))


def outcome(call_id: str = "", tenant_id: str = "t") -> Entry:
    """An entry nobody waits for."""
    call_id = call_id or f"call{next(_numbers)}"
    event_id = f"outcome{next(_numbers)}"
    receipt = ReceiptRow(tenant_id, 0, "outcome", event_id, call_id, 1, *[None] * 21, "")  # type: ignore[arg-type]
    return Entry(receipt, closes=call_id)


class ToldStore:
    """Batches go through `answer`; while `gate` is closed they hang where a commit would."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.attempts: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.is_broken: Exception | None = None
        self.breaks_on: Callable[[Entry], Exception | None] = lambda entry: None
        self.answer: Callable[[Entry], Answer] = self.recorded
        self.probes = 0
        self.upkeeps = 0
        self.upkeep_failure: Exception | None = None
        self.entered = asyncio.Event()

    def recorded(self, entry: Entry) -> Answer:
        return Recorded(next(_numbers), "hash", 1, 0)

    async def record(self, entries: Sequence[Entry], seal: Any) -> list[Answer]:
        names = [entry.receipt.event_id for entry in entries]
        self.attempts.append(names)
        self.entered.set()
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        if self.is_broken is not None:
            raise self.is_broken
        for entry in entries:
            if (error := self.breaks_on(entry)) is not None:
                raise error
        self.batches.append(names)
        return [self.answer(entry) for entry in entries]

    async def after_commit(self) -> None:
        self.upkeeps += 1
        if self.upkeep_failure is not None:
            raise self.upkeep_failure

    async def probe(self) -> None:
        self.probes += 1
        if self.is_broken is not None:
            raise self.is_broken

    @property
    def written(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


@asynccontextmanager
async def told_queue(store: ToldStore | None = None, **settings: Any) -> AsyncIterator[WriteQueue]:
    """A queue over a told store, closed afterwards."""
    defaults: dict[str, Any] = {"capacity": 100, "wait_s": 5.0}
    queue = WriteQueue(
        store or ToldStore(),
        seal,  # type: ignore[arg-type]
        monotonic_ns=time.perf_counter_ns,
        **(defaults | settings),
    )
    try:
        yield queue
    finally:
        if store is not None:
            store.gate.set()
        await queue.close()


def begin(queue: WriteQueue, entry: Entry) -> asyncio.Task[Answer]:
    """Submits in a task of its own."""
    return asyncio.get_running_loop().create_task(queue.submit(entry))


async def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    """Waits until it holds; fails if it does not in time."""
    end = time.perf_counter() + seconds
    while not holds():
        assert time.perf_counter() < end, "it did not happen in time"
        await asyncio.sleep(0.001)
