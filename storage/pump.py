"""The one task that carries waiting entries to the store, batch after batch.

Knows: how a batch is put together, and what becomes of it. A batch that commits answers all its
waiters in one pass. A batch that fails fails all its waiters, and what nobody waits for goes
back to its lane and is tried again: by itself, in ever smaller batches, so that an entry that
breaks its batch cannot break anybody's call. After a failure the next attempt comes soon if
somebody waits, later if nobody does; with nothing to write, a probe tells when commits work again.
Must not know: who submits, deadlines, what entries mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from storage.errors import CommitUnknown, StoreError
from storage.health import Health
from storage.lanes import Lane, shares
from storage.linger import LINGER_ENTRIES_MAX, Linger
from storage.queue_counters import QueueCounters
from storage.records import AlreadyClosed, Answer, Entry, Recorded, Seal
from storage.retry import Backoff, UnknownCommits
from storage.rounds import go_round
from storage.waiters import Waiter

_log = logging.getLogger("aegis.store.queue")

#: First and longest pause after failures: while somebody waits for a commit, and while only
#: entries wait that nobody asks for.
WAITED_FOR_PAUSES_S = (0.01, 0.25)
QUEUED_PAUSES_S = (0.05, 2.0)
#: Lookups between two batches; more would hold up those who wait.
LOOKUPS_AT_ONCE = 32


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


class Pump:
    """Takes from two lanes, writes, tells. `run` ends only after `stop`."""

    def __init__(
        self,
        store: RecordingStore,
        seal: Seal,
        unknown: UnknownCommits,
        counters: QueueCounters,
        *,
        batch_max: int,
        monotonic_ns: Callable[[], int],
        on_unheard: Callable[[Entry, Answer], None],
        on_turn_end: Callable[[], None],
        on_batch: Callable[[int, float], None] | None,
    ) -> None:
        self._store = store
        self._seal = seal
        self.unknown = unknown
        self._counters = counters
        self._batch_max = batch_max
        self._now_ns = monotonic_ns
        self._on_unheard = on_unheard
        self._on_turn_end = on_turn_end
        self.on_batch = on_batch
        self.committed: Lane[Waiter] = Lane()
        self.queued: Lane[Entry] = Lane()
        #: Entries of each lane in the batch under way.
        self.running = (0, 0)
        #: When somebody who still waited was last told of a commit; None if that never was.
        self.heard_ns: int | None = None
        self.health = Health(store.probe, counters, monotonic_ns)
        self._waited_for = Backoff(*WAITED_FOR_PAUSES_S, monotonic_ns)
        self._retry = Backoff(*QUEUED_PAUSES_S, monotonic_ns)
        #: How much of the queued lane rides in one batch; less than all while it is in trouble.
        self._queued_max = batch_max
        self._last_was_waited_for = False
        self._is_stopping = False
        self._is_hurried = False
        self._linger = Linger(monotonic_ns, self.wake)
        self._sleeper: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Something waits now."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def queued_came(self) -> None:
        """Something came that nobody waits for: while that lingers, who sleeps sleeps on."""
        if self._sleeper is None or self._sleeper.done():
            return
        if self._lingers():
            self._linger.watch()
        else:
            self.wake()

    def stop(self) -> None:
        """Ends `run` after the batch under way."""
        self._is_stopping = True
        self._linger.stop()
        self.wake()

    def hurry(self) -> None:
        """From now on nothing lingers."""
        self._is_hurried = True
        self.wake()

    async def run(self) -> None:
        """Writes until stopped. An exception that leaves it is a fault of this program."""
        while not self._is_stopping:
            waiters, queued = self._next_batch()
            if waiters or queued:
                await self._turn(waiters, queued)
            elif self.health.is_well and self.unknown.are_due():
                await self._settle()
            elif not self.committed.depth and not self.queued.depth and self.health.is_due():
                await self.health.probe()
            else:
                await self._sleep(self._due_ns())

    # -- one batch -------------------------------------------------------------------------

    def _next_batch(self) -> tuple[list[Waiter], list[Entry]]:
        if not self.committed.depth and (not self.queued.depth or self._lingers()):
            return [], []
        self._linger.end()
        if self.health.is_well and self._queued_max == self._batch_max:
            count, queued_count = shares(self.committed.depth, self.queued.depth, self._batch_max)
        else:
            count, queued_count = self._shares_in_trouble()
        waiters = self.committed.take(count) if count else []
        for waiter in waiters:
            waiter.is_running = True
        return waiters, self.queued.take(queued_count) if queued_count else []

    def _lingers(self) -> bool:
        """Whether what nobody waits for stays a little, to ride with the next call's batch."""
        if self._is_hurried or not self.health.is_well or self.queued.depth >= LINGER_ENTRIES_MAX:
            return False
        return self._linger.lasts()

    def _shares_in_trouble(self) -> tuple[int, int]:
        """After a failure the lanes take turns and ride apart, each after its own pause."""
        may_commit = self.committed.depth and self._waited_for.is_due()
        may_retry = self.queued.depth and self._retry.is_due()
        if may_commit and not (may_retry and self._last_was_waited_for):
            return min(self.committed.depth, self._batch_max), 0
        return 0, min(self.queued.depth, self._queued_max) if may_retry else 0

    async def _turn(self, waiters: list[Waiter], queued: list[Entry]) -> None:
        started_ns = self._now_ns()
        self._last_was_waited_for = bool(waiters)
        drawn = [waiter for waiter in waiters if waiter.draw()]
        self._counters.committed.rejected["error"] += len(waiters) - len(drawn)
        waiters = drawn
        if not waiters and not queued:
            self._on_turn_end()
            return
        self.running = (len(waiters), len(queued))
        is_committed = await self._write(waiters, queued)
        if is_committed and not self._is_hurried:
            # Who was told goes first; that is not the store's time.
            started_ns += await go_round(self.committed, self.queued, self._now_ns)
        await self._upkeep()
        if is_committed and self.on_batch is not None:
            self.on_batch(len(waiters) + len(queued), (self._now_ns() - started_ns) / 1e9)
        if is_committed and self.unknown.are_due():
            await self._settle()
        self._on_turn_end()

    async def _write(self, waiters: list[Waiter], queued: list[Entry]) -> bool:
        entries = [waiter.entry for waiter in waiters]
        entries += queued
        started_ns = self._now_ns()
        try:
            answers = await self._store.record(entries, self._seal)
            if len(answers) != len(entries):
                raise RuntimeError(f"{len(answers)} answers to {len(entries)} entries")
        except StoreError as error:
            await self._batch_failed(waiters, queued, error)
            return False
        except asyncio.CancelledError:
            self._give_up(waiters, queued, CommitUnknown("the writer was stopped"))
            raise
        except Exception as fault:
            _log.exception("the store failed in an unforeseen way")
            await self._batch_failed(waiters, queued, _unforeseen(fault))
            return False
        self._counters.committed_batch(len(entries), (self._now_ns() - started_ns) / 1e9)
        self._batch_committed(waiters, queued)
        self._tell(waiters, queued, answers)
        return True

    def _tell(
        self, waiters: Sequence[Waiter], queued: Sequence[Entry], answers: Sequence[Answer]
    ) -> None:
        unheard: list[tuple[Entry, Answer]] = []
        for waiter, answer in zip(waiters, answers, strict=False):
            if waiter.future.done():
                unheard.append((waiter.entry, answer))
            else:
                waiter.future.set_result(answer)
        self.running = (0, 0)
        if len(unheard) < len(waiters):
            self.heard_ns = self._now_ns()
        # Only after everybody knows: what is done about these may fail.
        for entry, answer in unheard:
            self._on_unheard(entry, answer)
        for entry, answer in zip(queued, answers[len(waiters) :], strict=True):
            if not isinstance(answer, Recorded | AlreadyClosed):
                self._counters.dropped_outcomes += 1
                self._counters.queued.rejected["error"] += 1
                _log.error(
                    "an entry nobody waits for cannot be recorded",
                    extra={"call_id": entry.receipt.call_id, "answer": str(answer)},
                )

    # -- its fate ----------------------------------------------------------------------------

    def _batch_committed(self, waiters: Sequence[Waiter], queued: Sequence[Entry]) -> None:
        if waiters:
            self._waited_for.succeeded()
        if queued:
            self._retry.succeeded()
            self._queued_max = min(self._queued_max * 2, self._batch_max)
        if not self.queued.depth:
            self._queued_max = self._batch_max
        self.health.succeeded()

    async def _batch_failed(
        self, waiters: Sequence[Waiter], queued: Sequence[Entry], error: StoreError
    ) -> None:
        self._counters.failed_batches += 1
        self.health.failed(error)
        self._give_up(waiters, queued, error)
        if waiters:
            self._waited_for.failed()
        if queued:
            self._retry.failed()
            self._queued_max = max(1, len(queued) // 2)
        if len(queued) == 1 and not waiters:
            await self.health.probe()
            if self.health.is_well:
                _log.error(
                    "an entry nobody waits for fails alone; it is kept and tried again",
                    extra={"call_id": queued[0].receipt.call_id, "code": error.code},
                )

    def _give_up(
        self, waiters: Sequence[Waiter], queued: Sequence[Entry], error: StoreError
    ) -> None:
        """The batch is not known to be durable: its waiters are told, the rest is kept."""
        if isinstance(error, CommitUnknown):
            self.unknown.add(waiter.entry for waiter in waiters)
            self._counters.unknown = len(self.unknown)
        if len(queued) == 1:
            # Behind its neighbours: if it is the cause, they get by.
            self.queued.add(queued[0].receipt.tenant_id, queued[0])
        else:
            self.queued.put_back((entry.receipt.tenant_id, entry) for entry in queued)
        self.running = (0, 0)
        self.fail(waiters, error)

    def fail(self, waiters: Sequence[Waiter], error: StoreError, reason: str = "error") -> None:
        """Tells waiters who do not know yet that nothing was promised, and counts them."""
        self._counters.committed.rejected[reason] += sum(w.fail(error) for w in waiters)

    async def _upkeep(self) -> None:
        try:
            await self._store.after_commit()
        except StoreError as error:
            self.health.failed(error)

    async def _settle(self) -> None:
        await self.unknown.settle(LOOKUPS_AT_ONCE)
        self._counters.unknown = len(self.unknown)

    # -- rest ------------------------------------------------------------------------------

    def _due_ns(self) -> int | None:
        """When to look again, if nobody wakes the pump before; None: only when woken."""
        due: list[int] = []
        if self.committed.depth:
            due.append(self._waited_for.due_ns)
        if self.queued.depth:
            due.append(max(self._retry.due_ns, self._linger.until_ns))
        if self.health.is_well and len(self.unknown):
            due.append(self.unknown.due_ns)
        if not self.health.is_well and not due:
            due.append(self.health.due_ns)
        return min(due) if due else None

    async def _sleep(self, until_ns: int | None) -> None:
        loop = asyncio.get_running_loop()
        self._sleeper = loop.create_future()
        timer = None
        if until_ns is not None:
            # A timer may fire a little early: never less than a millisecond, never a spin.
            pause_s = max((until_ns - self._now_ns()) / 1e9, 0.001)
            timer = loop.call_later(pause_s, self.wake)
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()


def _unforeseen(fault: Exception) -> CommitUnknown:
    error = CommitUnknown(f"the store failed in an unforeseen way: {fault!r}")
    error.__cause__ = fault
    return error
