"""Raising and lifting the fence of a running sidecar, in order.

Knows: that a fence stands only when nothing is on its way to the store any more (calls in flight
have ended, their outcomes are committed, nothing is looked up or recovered), and that it is then
put on record in the store itself: by that a mover knows that it reads the very store which stands
still, and a restart does not take up work. What cannot stand still in time is not fenced. That it
stands, and that it is lifted, is told in each tenant's chain in the transaction of the mark: who
moves the store copies the one, and the other is not written to a store that was left.
Must not know: HTTP, how a store is moved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.clock import Clock
from sidecar.counted import counted
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.store_entries import fenced, unfenced
from storage.errors import StoreError
from storage.marks import FenceMark, StoreMoved, Told
from storage.records import Answer, Recorded

if TYPE_CHECKING:
    from storage.write_queue import WriteQueue

LOOK_S: Final = 0.02
#: The longest that a request may give calls in flight to end.
WAIT_S_MAX: Final = 3600.0

_log = logging.getLogger("aegis.control")


class MarkKeeper(Protocol):
    """What fencing needs of the marks in the store."""

    async def put_fence(self, mark: FenceMark, told: Told | None = None) -> Sequence[Answer]:
        """Puts the fence on record, and what is told with it."""
        ...

    async def drop_fence(self, told: Told | None = None) -> Sequence[Answer]:
        """Takes it off the record; raises StoreMoved where the store was left for good."""
        ...

    async def leave(self, target: str, node_id: str) -> None:
        """The store was moved; raises a StoreError if another node than this one lives on it."""


class BesideQueue(Protocol):
    """Whoever writes receipts beside the queue."""

    is_recovering: bool


class FenceRefused(Exception):
    """The fence is not raised, lifted or ended: `code` is stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str) -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


class Fencing:
    """The fence of one sidecar. One request is served at a time."""

    def __init__(
        self,
        fence: Fence,
        *,
        queue: WriteQueue,
        marks: MarkKeeper,
        clock: Clock,
        node_id: str,
        tenants: Collection[str],
        wait_s: float,
        beside: BesideQueue | None = None,
    ) -> None:
        """`wait_s` is how long calls in flight may take to end if a request names no time; whose
        chains tell of the fence are `tenants`."""
        self.fence = self._fence = fence
        self._queue = queue
        self._marks = marks
        self._clock = clock
        self._node_id = node_id
        self._tenants = tuple(tenants)
        self._wait_s = wait_s
        self._beside = beside
        self._turn = asyncio.Lock()

    async def stand(
        self, *, target: str, reason: str, wait_s: float | None, actor: str
    ) -> dict[str, Any]:
        """Refuses calls from now on, and gives the fence when the store stands still and `actor` is
        on record for it.

        A fence for the same target that stands already is given as it is. Raises FenceRefused
        (and no fence stands that did not stand before) if it stands for another target, if calls
        have not ended in time, or if it cannot be put on record.
        """
        async with self._turn:
            standing = self._fence.standing
            if standing is not None:
                if standing.target != target:
                    raise _refused_for_another(standing)
                return self._said(standing, is_new=False)
            standing = Standing(self._clock.new_id(), target, reason, self._clock.now_us())
            self._fence.stand(standing)
            try:
                await self._still(min(self._wait_s if wait_s is None else wait_s, WAIT_S_MAX))
                await self._put_on_record(standing, actor)
            except BaseException:
                self._fence.lift()
                raise
            _log.warning("the store is fenced; calls are refused", extra={"store": target})
            return self._said(standing, is_new=True)

    async def lift(self, *, actor: str, reason: str) -> dict[str, Any]:
        """Calls go ahead again, as `actor` is on record for; raises FenceRefused if the store was
        moved for good, or it cannot be put on record."""
        async with self._turn:
            standing = self._fence.standing
            if standing is None:
                return {"lifted": False}
            if standing.is_moved:
                raise _refused_as_moved(standing.target)
            try:
                await self._take_off_record(standing, actor, reason)
            except StoreMoved as error:
                self._fence.stand(replace(standing, is_moved=True))
                raise _refused_as_moved(standing.target) from error
            except StoreError as error:
                raise FenceRefused(
                    error.code, f"The fence stays: {error}", error.next_step
                ) from error
            self._fence.lift()
            _log.warning("the fence is lifted; calls go ahead", extra={"store": standing.target})
            return {"lifted": True}

    async def leave(self, fence_id: str) -> dict[str, Any]:
        """The move is over: the store is marked as moved, calls stay refused. Again is no harm.

        Raises FenceRefused if that fence does not stand any more, or the mark cannot be set.
        """
        async with self._turn:
            standing = self._fence.standing
            if standing is None or standing.fence_id != fence_id:
                raise FenceRefused(
                    "fence_gone",
                    "The fence of this move does not stand any more",
                    "Calls may have been recorded since: start the move again into an empty store.",
                )
            try:
                await self._marks.leave(standing.target, self._node_id)
            except StoreError as error:
                raise FenceRefused(
                    error.code, f"The source is not marked: {error}", error.next_step
                ) from error
            standing = replace(standing, is_moved=True)
            self._fence.stand(standing)
            _log.warning(
                "the store was moved; calls stay refused", extra={"store": standing.target}
            )
            return self._said(standing, is_new=False)

    # -- standing still --------------------------------------------------------------------

    async def _still(self, wait_s: float) -> None:
        """Waits until nothing is on its way to the store; new calls are refused already."""
        until_ns = self._clock.monotonic_ns() + int(wait_s * 1e9)
        while self._moving():
            if self._clock.monotonic_ns() > until_ns:
                calls, waiting = self._queue.reserved, self._waiting()
                raise FenceRefused(
                    "fence_calls_open",
                    f"The store does not stand still after {wait_s:g} s: "
                    f"{counted(calls, 'call')} in flight "
                    f"have not ended, {counted(waiting, 'record')} are not written",
                    "Give them longer with --fence-wait, or stop the sidecar: then they are cut "
                    "off, on record.",
                )
            await asyncio.sleep(LOOK_S)

    def _moving(self) -> bool:
        is_recovering = self._beside is not None and self._beside.is_recovering
        return bool(self._queue.reserved or self._waiting() or is_recovering)

    def _waiting(self) -> int:
        queue = self._queue
        return queue.depth("committed") + queue.depth("queued") + queue.counters.unknown

    # -- on record -------------------------------------------------------------------------

    async def _put_on_record(self, standing: Standing, actor: str) -> None:
        mark = self._mark(standing)
        entries = [fenced(self._clock, tenant, actor, mark) for tenant in self._tenants]
        try:
            _tell_of_untold(await self._marks.put_fence(mark, Told(entries, seal)))
        except StoreError as error:
            raise FenceRefused(
                error.code, f"The fence cannot be put on record: {error}", error.next_step
            ) from error

    async def _take_off_record(self, standing: Standing, actor: str, reason: str) -> None:
        """Raises a StoreError."""
        mark = self._mark(standing)
        entries = [unfenced(self._clock, tenant, actor, mark, reason) for tenant in self._tenants]
        _tell_of_untold(await self._marks.drop_fence(Told(entries, seal)))

    def _mark(self, standing: Standing) -> FenceMark:
        return FenceMark(
            standing.fence_id, standing.target, self._node_id, standing.reason, standing.since_us
        )

    def _said(self, standing: Standing, *, is_new: bool) -> dict[str, Any]:
        return {
            "fence_id": standing.fence_id,
            "target": standing.target,
            "node_id": self._node_id,
            "is_new": is_new,
            "is_moved": standing.is_moved,
            "calls_open": self._queue.reserved,
        }


def _tell_of_untold(answers: Sequence[Answer]) -> None:
    """A chain that takes nothing has no calls either, and keeps nobody from a move."""
    for answer in answers:
        if not isinstance(answer, Recorded):
            _log.error("a chain does not tell of the fence", extra={"cause": str(answer)})


def _refused_for_another(standing: Standing) -> FenceRefused:
    if standing.is_moved:
        return _refused_as_moved(standing.target)
    return FenceRefused(
        "fence_for_another",
        f"The store is fenced for a move to {standing.target}",
        "Go on with that move, or lift the fence with `aegis-sidecar store unfence`.",
    )


def _refused_as_moved(target: str) -> FenceRefused:
    return FenceRefused(
        "store_moved",
        f"The store was moved to {target}",
        "Set `store:` to it and restart the sidecar.",
    )
