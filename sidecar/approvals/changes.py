"""Changes of approvals, put on record: each in the transaction of the receipt that tells of it.

Knows: that the store has the word, and its clock: a change is a ticket that is looked at where it
is recorded; that what is begun is done to its end, whoever leaves; who must hear of what came true.
Must not know: who asks or votes, and what for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sidecar.approvals.entries import EXPIRE, SIDECAR, approval_entry
from sidecar.approvals.register import Register
from sidecar.approvals.states import OPEN, State, Step, expiring, is_over, moved
from sidecar.approvals.waiting import Waiting
from sidecar.errors import Refused
from storage.records import Answer, Declined, Entry, Recorded
from storage.standing import ApprovalRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence
    from storage.watch_rows import DeliveryRow
    from storage.write_queue import WriteQueue

T = TypeVar("T")


class Tells(Protocol):
    """Who is told of changes."""

    def rows(
        self, verb: str, row: ApprovalRow, after: ApprovalRow | None, actor: str, reason: str
    ) -> Sequence[DeliveryRow]:
        """What is put in the transaction of a change (`entries.ASK` and the like): `row` as it
        was looked at (of a new one its draft), `after` as it will be."""
        ...

    def recorded(self) -> None:
        """Such a transaction is durable."""
        ...


class Nobody:
    """Nobody is told."""

    def rows(
        self, verb: str, row: ApprovalRow, after: ApprovalRow | None, actor: str, reason: str
    ) -> Sequence[DeliveryRow]:
        """See `Tells.rows`."""
        return ()

    def recorded(self) -> None:
        """See `Tells.recorded`."""


class Changes:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(
        self, *, queue: WriteQueue, clock: Clock, fence: Fence, tells: Tells | None = None
    ) -> None:
        self._tells = tells or Nobody()
        self._queue = queue
        self._clock = clock
        self._fence = fence
        #: How far the store's clock is ahead of ours.
        self._ahead_us = 0
        self._begun: set[asyncio.Task[Any]] = set()
        #: Calls that are held.
        self.waiting = Waiting()
        #: The open ones, as far as this process knows.
        self.register = Register()

    def now_us(self) -> int:
        """The moment by the store's clock, as far as it is known here."""
        return self._clock.steady_us() + self._ahead_us

    async def expire(self, row: ApprovalRow) -> bool:
        """Ends one whose time has run out, on record; False where the store's clock says that it
        has not, or where it was voted on since it was looked at. One that has ended already is not
        ended again. Raises StoreError, Refused."""
        after = moved(row, State.EXPIRED, self.now_us())
        answer = await self.change(row, EXPIRE, expiring(row.version), SIDECAR, after)
        key = (row.tenant_id, row.approval_id)
        if isinstance(answer, Recorded):
            self.ended_here(after)
            self.waiting.wake(key)
            return True
        if isinstance(answer, Declined) and answer.why in _STATES:
            self.register.forget(key)
            return True
        return False

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """What is begun is done to its end, whether or not its caller waits for it: what became
        durable must be heard of here too."""
        task = asyncio.get_running_loop().create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody else has to hear of it

    async def change(
        self,
        row: ApprovalRow,
        verb: str,
        step: Step,
        actor: str,
        after: ApprovalRow | None,
        reason: str = "",
    ) -> Answer:
        """Submits one; what it came to. Raises StoreError, Refused while the store is fenced."""
        if self._fence.is_up:
            raise self._fence.refused()
        puts = self._tells.rows(verb, row, after, actor, reason)
        entry = approval_entry(
            self._clock, row, verb, self.noting(step), actor=actor, after=after, reason=reason,
            puts=puts,
        )  # fmt: skip
        answer = await self._queue.submit(entry)
        if puts and isinstance(answer, Recorded):
            self._tells.recorded()
        return answer

    async def record(self, entry: Entry) -> None:
        """Puts on record what changes no approval. Raises StoreError, Refused."""
        if self._fence.is_up:
            raise self._fence.refused()
        answer = await self._queue.submit(entry)
        if not isinstance(answer, Recorded):
            raise Refused("store_unavailable", retry_after_s=1, detail=f"unrecordable: {answer}")

    def noting(self, step: Step) -> Step:
        """The step, which keeps in mind what the store's clock says."""

        def noted(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
            self._ahead_us = at_us - self._clock.steady_us()
            return step(row, at_us)

        return noted

    def as_it_is(self, row: ApprovalRow) -> ApprovalRow:
        """The row; one whose time has run out as expired, whether or not that is on record."""
        if row.state in OPEN and is_over(row, self.now_us()):
            return row._replace(state=State.EXPIRED.value)
        return row

    def ended_here(self, row: ApprovalRow) -> None:
        """It came to an end by what this process did."""
        self.register.decided(row, self.now_us())
        self.register.forget((row.tenant_id, row.approval_id))


_STATES = frozenset(state.value for state in State)
