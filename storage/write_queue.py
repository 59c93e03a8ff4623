"""The bounded group-commit queue in front of the store's one writer.

While one batch commits, the next one gathers: no timer, no lock, no task for a call that waits.
`submit` returns only after COMMIT (the committed lane); `enqueue` hands over what nobody waits
for (the queued lane: outcomes), in a place that was reserved beforehand, so it cannot overflow.
Every waiter is told the truth: an answer, or an error after which nothing may be forwarded.
An entry that becomes durable after its caller gave up is reported to `on_abandoned`.
Must not know: what entries mean, HTTP, metrics libraries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from storage.errors import QueueClosed, QueueFull, QueueTimeout, StoreUnavailable
from storage.pump import Pump, RecordingStore
from storage.queue_counters import QueueCounters
from storage.records import Answer, Entry, NoRoom, Recorded, Seal
from storage.retry import Lookup, UnknownCommits
from storage.waiters import Patience, Waiter

__all__ = ["BATCH_MAX", "RecordingStore", "Slot", "WriteQueue"]

_log = logging.getLogger("aegis.store.queue")

BATCH_MAX = 512


class Slot:
    """A reserved place in the queued lane; used once by `enqueue`, or given back."""

    __slots__ = ("_queue",)

    def __init__(self, queue: WriteQueue) -> None:
        self._queue: WriteQueue | None = queue

    def release(self) -> bool:
        """Gives the place back; False (and nothing happens) if it was used or given back."""
        queue = self._queue
        if not self.use():
            return False
        if queue is not None:
            queue.look_if_drained()
        return True

    def use(self) -> bool:
        """Turns the place into an entry's; False if it was used or given back."""
        queue, self._queue = self._queue, None
        if queue is None:
            return False
        queue.reserved -= 1
        return True


class WriteQueue:
    """One pump task, two lanes. All methods are called on the event loop's thread.

    `capacity` bounds each lane, in entries that are not durable yet (the queued lane: together
    with the places reserved); `wait_s` is how long a caller waits for its commit.
    `on_abandoned(entry, recorded)` is told of entries that became durable after their caller had
    given up; `reserve` never refuses a place inside it. `lookup(entry)` finds out what became of
    an entry whose commit is unknown: its receipt, or None if there is none.
    `on_batch(entries, seconds)` sees each committed batch, with the time from its taking to the
    moment the next could be taken.
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
        lookup: Lookup | None = None,
        on_batch: Callable[[int, float], None] | None = None,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self.capacity = capacity
        self.batch_max = batch_max
        self.on_abandoned = on_abandoned
        self.counters = QueueCounters()
        #: Places of the queued lane that are reserved and not used yet.
        self.reserved = 0
        self.wait_s = wait_s
        self._now_ns = monotonic_ns
        #: When a caller was last turned away because there was no place, or no time left.
        self._turned_away_ns: int | None = None
        self._loop = asyncio.get_running_loop()
        self._patience = Patience(self._loop, wait_s, monotonic_ns, self._on_expired)
        self._unknown = UnknownCommits(
            lookup, self._on_unheard, monotonic_ns, self.counters.lookups
        )
        self._pump = Pump(
            store,
            seal,
            self._unknown,
            self.counters,
            batch_max=batch_max,
            monotonic_ns=monotonic_ns,
            on_unheard=self._on_unheard,
            on_turn_end=self._on_turn_end,
            on_batch=on_batch,
        )
        self._committed = self._pump.committed
        self._is_draining = False
        self._is_closed = False
        self._is_granting = False
        self._drained: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._task = self._loop.create_task(self._pump.run(), name="write-queue")
        self._task.add_done_callback(self._on_pump_end)

    # -- callers ---------------------------------------------------------------------------

    async def submit(self, entry: Entry) -> Answer:
        """Waits until the entry is durable, or its guard has failed.

        Raises QueueFull, QueueTimeout, QueueClosed, or the StoreError that the batch met;
        after any of them the entry must be taken as not recorded.
        """
        return await self.submit_draft(entry.receipt.tenant_id, lambda: entry)

    async def submit_draft(self, tenant_id: str, draft: Callable[[], Entry]) -> Answer:
        """The same for an entry that is drafted when its batch is put together: all entries of a
        batch one after the other, which takes half the time of each by itself.

        Raises what `draft` raises too; it is called once at most, and must not wait for anything.
        """
        committed = self._committed
        if (
            self._is_draining
            or self._failure is not None
            or committed.depth + self._pump.running[0] >= self.capacity
            or len(self._unknown) >= self.capacity
        ):
            self._refuse()
        waiter = self._patience.begin(tenant_id, draft)
        committed.add(tenant_id, waiter)
        self.counters.committed.accepted += 1
        self._pump.wake()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._on_cancelled(waiter)
            raise

    def reserve(self) -> Slot:
        """A place in the queued lane for later; raises QueueFull, QueueClosed, StoreUnavailable."""
        if not self._is_granting:
            rejected = self.counters.queued.rejected
            if self._is_draining:
                rejected["closed"] += 1
                raise QueueClosed
            if self._failure is not None:
                self._check_pump(rejected)
            queued = self._pump.queued.depth + self._pump.running[1]
            if self.reserved + queued >= self.capacity:
                raise self._full(rejected)
        self.reserved += 1
        return Slot(self)

    def enqueue(self, entry: Entry, slot: Slot) -> None:
        """Hands an entry over in a reserved place; never blocks, and works while draining.

        The entry must close an intent: only that can be tried again without being recorded
        twice. Raises ValueError for any other entry and for a place that was used or given
        back; QueueClosed after the drain; StoreUnavailable if the writer stopped.
        """
        if entry.closes is None:
            raise ValueError("only an entry that closes an intent can be handed over")
        if not slot.use():
            raise ValueError("this place was used or given back already")
        rejected = self.counters.queued.rejected
        if self._is_closed:
            rejected["closed"] += 1
            raise QueueClosed
        if self._failure is not None:
            self._check_pump(rejected)
        self.counters.queued.accepted += 1
        self._pump.queued.add(entry.receipt.tenant_id, entry)
        self._pump.queued_came()

    # -- facts -----------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """The last attempt to commit succeeded, and the writer runs."""
        return self._pump.health.is_well and self._failure is None

    def depth(self, lane: str) -> int:
        """Entries of a lane ('committed' or 'queued') that are not durable yet."""
        if lane == "committed":
            return self._committed.depth + self._pump.running[0]
        return self._pump.queued.depth + self._pump.running[1]

    def oldest_age_s(self) -> float:
        """How long the oldest caller has waited; 0 if nobody waits."""
        return self._patience.oldest_age_s()

    def is_behind(self, within_s: float) -> bool:
        """Whether, in the last so many seconds, callers were turned away because the queue was full
        or their time was up, and nobody was told of a commit in time."""
        since_ns = self._now_ns() - within_s * 1e9
        return _is_since(self._turned_away_ns, since_ns) and not self.was_heard(within_s)

    def was_heard(self, within_s: float) -> bool:
        """Whether, in the last so many seconds, a caller was told of a commit in time."""
        return _is_since(self._pump.heard_ns, self._now_ns() - within_s * 1e9)

    # -- the end ---------------------------------------------------------------------------

    async def drain(self, deadline_s: float) -> int:
        """Closes the committed lane and writes what is there; gives how many were left over.

        Entries for reserved places are still taken until all are used or given back, or the
        deadline is over. Left over are entries that are not durable and places not used.
        """
        self._is_draining = True
        self._pump.hurry()
        if self._left() and not self._task.done():
            self._drained = self._loop.create_future()
            timer = self._loop.call_later(deadline_s, self._end_drain)
            try:
                await self._drained
            finally:
                timer.cancel()
                self._drained = None
        self._is_closed = True
        return self._left()

    async def close(self) -> None:
        """Ends the writer; whoever still waits is told. The batch under way may finish first."""
        self._is_draining = self._is_closed = True
        waiting = self._committed.take(self._committed.depth)
        self._pump.fail(waiting, QueueClosed(), "closed")
        self._pump.stop()
        _, unfinished = await asyncio.wait({self._task}, timeout=self.wait_s)
        for task in unfinished:
            task.cancel()
            await asyncio.wait({task})
        self._patience.stop()

    def look_if_drained(self) -> None:
        """Something may have been the last thing a drain waits for."""
        if self._drained is not None and not self._left():
            self._end_drain()

    def _end_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _left(self) -> int:
        return self.depth("committed") + self.depth("queued") + self.reserved

    # -- what befalls a waiter -------------------------------------------------------------

    def _refuse(self) -> None:
        rejected = self.counters.committed.rejected
        if self._is_draining:
            rejected["closed"] += 1
            raise QueueClosed
        self._check_pump(rejected)
        if len(self._unknown) >= self.capacity:
            rejected["error"] += 1
            raise StoreUnavailable("too many commits of unknown outcome are to be looked up")
        raise self._full(rejected)

    def _full(self, rejected: dict[str, int]) -> QueueFull:
        rejected["full"] += 1
        self._turned_away_ns = self._now_ns()
        return QueueFull()

    def _check_pump(self, rejected: dict[str, int]) -> None:
        if self._failure is not None:
            rejected["error"] += 1
            raise StoreUnavailable(f"the writer stopped: {self._failure!r}")

    def _on_expired(self, waiter: Waiter) -> None:
        self.counters.committed.rejected["timeout"] += 1
        self._turned_away_ns = self._now_ns()
        if not waiter.is_running:
            self._committed.remove(waiter.tenant_id, waiter)
        waiter.future.set_exception(QueueTimeout())

    def _on_cancelled(self, waiter: Waiter) -> None:
        """The caller is gone: forget the entry, or see to it that its record does not hang."""
        future = waiter.future
        if not waiter.is_running:
            self._committed.remove(waiter.tenant_id, waiter)
        if not future.done():
            future.cancel()
        if future.cancelled() or future.exception() is not None:
            return
        # Answered in the same turn of the loop in which the caller was cancelled.
        self._on_unheard(waiter.entry, future.result())

    def _on_unheard(self, entry: Entry, answer: Answer) -> None:
        if isinstance(answer, NoRoom):
            entry, answer = answer.entry, answer.recorded
        if not isinstance(answer, Recorded):
            return
        self.counters.abandoned += 1
        if self.on_abandoned is None:
            return
        self._is_granting = True
        try:
            self.on_abandoned(entry, answer)
        finally:
            self._is_granting = False

    def _on_turn_end(self) -> None:
        self._patience.forget_done()
        if self._drained is not None:
            self.look_if_drained()

    def _on_pump_end(self, task: asyncio.Task[None]) -> None:
        """The pump never ends by itself; if a fault of ours ends it, everyone is told."""
        if task.cancelled():
            self._failure = None if self._is_closed else RuntimeError("the writer was cancelled")
        else:
            self._failure = task.exception()
        if self._failure is None:
            return
        self.counters.last_error_code = "writer_stopped"
        _log.critical("the writer stopped", exc_info=self._failure)
        error = StoreUnavailable(f"the writer stopped: {self._failure!r}")
        self.counters.last_error, self.counters.last_error_step = str(error), error.next_step
        self._committed.take(self._committed.depth)
        self._pump.fail(self._patience.waiting(), error)
        self._end_drain()


def _is_since(moment_ns: int | None, since_ns: float) -> bool:
    return moment_ns is not None and moment_ns >= since_ns
