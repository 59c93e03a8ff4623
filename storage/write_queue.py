"""The bounded group-commit queue in front of the store's one writer.

While one batch commits, the next one gathers: no timer, no lock per call, no task per call.
`submit` returns only after COMMIT (the committed lane); `enqueue` hands over what nobody waits
for (the queued lane: outcomes), in a place that was reserved beforehand, so it cannot overflow.
Every waiter is told the truth: an answer, or an error after which nothing may be forwarded. A
batch that fails fails all its waiters; what nobody waits for is kept and tried again.
Must not know: what entries mean, HTTP, metrics libraries.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from storage.errors import (
    CommitUnknown,
    QueueClosed,
    QueueFull,
    QueueTimeout,
    StoreError,
    StoreUnavailable,
)
from storage.lanes import Lane
from storage.queue_counters import QueueCounters
from storage.records import AlreadyClosed, Answer, Entry, Recorded, Seal

_log = logging.getLogger("aegis.store.queue")

BATCH_MAX = 512
#: Of a full batch, at least this part is left to the queued lane when it has that much waiting.
QUEUED_SHARE = 0.5
RETRY_S_MIN, RETRY_S_MAX = 0.05, 2.0


class RecordingStore(Protocol):
    """What the queue needs of a store."""

    async def record(self, entries: Sequence[Entry], seal: Seal) -> list[Answer]:
        """One transaction; see storage.protocol."""
        ...

    async def after_commit(self) -> None:
        """Upkeep between batches."""
        ...

    async def probe(self) -> None:
        """Proves that a commit would succeed now."""
        ...


class _Waiter:
    """One entry of the committed lane and the caller who waits for it."""

    __slots__ = ("at_ns", "entry", "future", "is_running")

    def __init__(self, entry: Entry, future: asyncio.Future[Answer], at_ns: int) -> None:
        self.entry = entry
        self.future = future
        self.at_ns = at_ns
        self.is_running = False


class Slot:
    """A reserved place in the queued lane; used once by `enqueue`, or given back."""

    __slots__ = ("_queue",)

    def __init__(self, queue: WriteQueue) -> None:
        self._queue: WriteQueue | None = queue

    def release(self) -> None:
        """Gives the place back; nothing happens if it was used or given back already."""
        if self._queue is not None:
            self._queue.reserved -= 1
            self._queue = None


class WriteQueue:
    """One pump task, two lanes. All methods are called on the event loop's thread.

    `capacity` bounds each lane, in entries; `wait_s` is how long a caller waits for its commit.
    `on_abandoned(entry, recorded)` is told of entries that committed after their caller had
    given up. `lookup(entry)` finds out what became of an entry whose commit is unknown.
    `on_batch(entries, seconds)` sees each committed batch.
    """

    def __init__(
        self,
        store: RecordingStore,
        seal: Seal,
        *,
        capacity: int,
        wait_s: float,
        monotonic_ns: Callable[[], int],
        on_abandoned: Callable[[Entry, Recorded], None] | None = None,
        lookup: Callable[[Entry], Awaitable[Recorded | None]] | None = None,
        on_batch: Callable[[int, float], None] | None = None,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._store = store
        self._seal = seal
        self.capacity = capacity
        self._wait_s = wait_s
        self._wait_ns = int(wait_s * 1e9)
        self._now_ns = monotonic_ns
        self.on_abandoned = on_abandoned
        self._lookup = lookup
        self.on_batch = on_batch
        self.batch_max = batch_max
        self.counters = QueueCounters()
        self.healthy = True
        self.reserved = 0
        self._committed: Lane[_Waiter] = Lane()
        self._queued: Lane[Entry] = Lane()
        self._in_batch: tuple[int, int] = (0, 0)
        self._by_age: deque[_Waiter] = deque()
        self._unknown: list[Entry] = []
        self._loop = asyncio.get_running_loop()
        self._sleeper: asyncio.Future[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._retry_s = RETRY_S_MIN
        self._is_closed = False
        self._failure: BaseException | None = None
        self._pump = self._loop.create_task(self._run(), name="write-queue")
        self._pump.add_done_callback(self._on_pump_end)

    # -- callers ---------------------------------------------------------------------------

    async def submit(self, entry: Entry) -> Answer:
        """Waits until the entry is durable, or its guard has failed.

        Raises QueueFull, QueueTimeout, QueueClosed, or the StoreError that the batch met;
        after any of them the entry must be taken as not recorded.
        """
        rejected = self.counters.committed.rejected
        if self._is_closed:
            rejected["closed"] += 1
            raise QueueClosed
        if self._failure is not None:
            rejected["error"] += 1
            raise StoreUnavailable(f"the writer stopped: {self._failure!r}")
        if self.depth("committed") >= self.capacity:
            rejected["full"] += 1
            raise QueueFull
        waiter = _Waiter(entry, self._loop.create_future(), self._now_ns())
        self._committed.add(entry.receipt.tenant_id, waiter)
        self._by_age.append(waiter)
        self.counters.committed.accepted += 1
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._wait_s, self._expire)
        self._wake()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise

    def reserve(self) -> Slot:
        """A place in the queued lane for later; raises QueueFull or QueueClosed."""
        if self._is_closed:
            self.counters.queued.rejected["closed"] += 1
            raise QueueClosed
        if self.reserved + self.depth("queued") >= self.capacity:
            self.counters.queued.rejected["full"] += 1
            raise QueueFull
        self.reserved += 1
        return Slot(self)

    def enqueue(self, entry: Entry, slot: Slot) -> None:
        """Hands an entry over in a reserved place; never blocks. Works while draining."""
        slot.release()
        self.counters.queued.accepted += 1
        self._queued.add(entry.receipt.tenant_id, entry)
        self._wake()

    def depth(self, lane: str) -> int:
        """Entries of a lane ('committed' or 'queued') that are not durable yet."""
        if lane == "committed":
            return self._committed.depth + self._in_batch[0]
        return self._queued.depth + self._in_batch[1]

    def oldest_age_s(self) -> float:
        """How long the oldest caller has waited; 0 if nobody waits."""
        self._forget_done()
        if not self._by_age:
            return 0.0
        return (self._now_ns() - self._by_age[0].at_ns) / 1e9

    async def drain(self, deadline_s: float) -> int:
        """Closes the intake and writes what is there; gives how many entries were left over.

        Entries for reserved places are still taken until the deadline.
        """
        self._is_closed = True
        until_ns = self._now_ns() + int(deadline_s * 1e9)
        while self._is_alive() and self._now_ns() < until_ns and self._left():
            self._wake()
            await asyncio.sleep(0.005)
        return self._left()

    async def close(self) -> None:
        """Ends the pump; whoever still waits is told. The batch under way is finished."""
        self._is_closed = True
        if not self._pump.done():
            while self._in_batch != (0, 0) and self._is_alive():  # noqa: ASYNC110 - bounded by one commit
                await asyncio.sleep(0.005)
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
        self._fail(self._committed.take(self._committed.depth), QueueClosed())

    # -- the pump --------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if self._committed.depth or (self._queued.depth and self.healthy):
                await self._commit_once()
                await self._store.after_commit()
            elif not self.healthy:
                await self._sleep(self._retry_s)
                if not self._committed.depth:
                    await self._mend()
            else:
                await self._sleep(None)

    async def _commit_once(self) -> None:
        waiters, queued = self._next_batch()
        entries = [waiter.entry for waiter in waiters]
        entries += queued
        self._in_batch = (len(waiters), len(queued))
        started_ns = self._now_ns()
        try:
            answers = await self._store.record(entries, self._seal)
        except StoreError as error:
            self._batch_failed(waiters, queued, error)
            return
        finally:
            took_s = (self._now_ns() - started_ns) / 1e9
            self.counters.busy_seconds += took_s
            self._in_batch = (0, 0)
        self.counters.committed_batch(len(entries), took_s)
        if self.on_batch is not None:
            self.on_batch(len(entries), took_s)
        self._tell(waiters, answers)
        self._check_queued(queued, answers[len(waiters) :])
        if not self.healthy:
            await self._became_healthy()

    def _next_batch(self) -> tuple[list[_Waiter], list[Entry]]:
        for_queued = min(self._queued.depth, int(self.batch_max * QUEUED_SHARE))
        waiters = self._committed.take(self.batch_max - for_queued)
        queued = self._queued.take(self.batch_max - len(waiters)) if self._queued.depth else []
        for waiter in waiters:
            waiter.is_running = True
        return waiters, queued

    def _tell(self, waiters: Sequence[_Waiter], answers: Sequence[Answer]) -> None:
        for waiter, answer in zip(waiters, answers, strict=False):
            if not waiter.future.done():
                waiter.future.set_result(answer)
            else:
                self._committed_unheard(waiter.entry, answer)
        self._forget_done()

    def _check_queued(self, queued: Sequence[Entry], answers: Sequence[Answer]) -> None:
        for entry, answer in zip(queued, answers, strict=True):
            if not isinstance(answer, Recorded | AlreadyClosed):
                self.counters.dropped_outcomes += 1
                _log.error(
                    "an entry nobody waits for cannot be recorded",
                    extra={"call_id": entry.receipt.call_id, "answer": str(answer)},
                )

    def _batch_failed(self, waiters: list[_Waiter], queued: list[Entry], error: StoreError) -> None:
        if self.healthy:
            _log.error("a batch failed", extra={"code": error.code, "detail": str(error)})
        self.healthy = False
        self.counters.failed_batches += 1
        self.counters.last_error_code = error.code
        if isinstance(error, CommitUnknown):
            self._unknown += [w.entry for w in waiters if w.entry.opens is not None]
        self._queued.put_back((entry.receipt.tenant_id, entry) for entry in queued)
        self._fail(waiters, error)

    def _fail(self, waiters: Sequence[_Waiter], error: StoreError) -> None:
        for waiter in waiters:
            if not waiter.future.done():
                self.counters.committed.rejected["error"] += 1
                waiter.future.set_exception(error)
        self._forget_done()

    async def _mend(self) -> None:
        """Nobody waits and the last batch failed: find out whether commits work again."""
        try:
            await self._store.probe()
        except StoreError as error:
            self.counters.last_error_code = error.code
            self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)
            return
        await self._became_healthy()

    async def _became_healthy(self) -> None:
        try:
            while self._unknown and self._lookup is not None:
                recorded = await self._lookup(self._unknown[0])
                entry = self._unknown.pop(0)
                if recorded is not None:
                    self._committed_unheard(entry, recorded)
        except StoreError:
            return
        self._retry_s = RETRY_S_MIN
        self.healthy = True
        _log.warning("the store commits again", extra={"code": self.counters.last_error_code})

    # -- waiting and giving up -------------------------------------------------------------

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _sleep(self, timeout_s: float | None) -> None:
        self._sleeper = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._wake) if timeout_s is not None else None
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def _expire(self) -> None:
        """The one deadline timer: everyone's patience is equal, so the oldest is the next."""
        self._sweep = None
        now_ns = self._now_ns()
        while self._by_age:
            waiter = self._by_age[0]
            if not waiter.future.done():
                left_ns = waiter.at_ns + self._wait_ns - now_ns
                if left_ns > 0:
                    self._sweep = self._loop.call_later(left_ns / 1e9, self._expire)
                    return
                self.counters.committed.rejected["timeout"] += 1
                if not waiter.is_running:
                    self._committed.remove(waiter.entry.receipt.tenant_id, waiter)
                waiter.future.set_exception(QueueTimeout())
            self._by_age.popleft()

    def _abandon(self, waiter: _Waiter) -> None:
        """The caller was cancelled: forget the entry, or remember that nobody will hear of it."""
        if not waiter.is_running:
            self._committed.remove(waiter.entry.receipt.tenant_id, waiter)
            return
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self._committed_unheard(waiter.entry, future.result())

    def _committed_unheard(self, entry: Entry, answer: Answer) -> None:
        if isinstance(answer, Recorded):
            self.counters.abandoned += 1
            if self.on_abandoned is not None:
                self.on_abandoned(entry, answer)

    def _forget_done(self) -> None:
        by_age = self._by_age
        while by_age and by_age[0].future.done():
            by_age.popleft()

    def _left(self) -> int:
        return self.depth("committed") + self.depth("queued") + self.reserved

    def _is_alive(self) -> bool:
        return not self._pump.done()

    def _on_pump_end(self, task: asyncio.Task[None]) -> None:
        """The pump never ends by itself; if a fault of ours ends it, everyone is told."""
        if task.cancelled():
            return
        self._failure = task.exception() or RuntimeError("the pump returned")
        self.healthy = False
        self.counters.last_error_code = "writer_stopped"
        _log.critical("the writer stopped", exc_info=self._failure)
        error = StoreUnavailable(f"the writer stopped: {self._failure!r}")
        self._fail(list(self._by_age), error)
