"""Where work is done that computes for long: in one thread, one piece after the other.

Knows: that whoever computes takes turns with the calls that are being decided, so that there is
only ever one who does, and few who wait; that one person, and one of several tenants, is at most
half of these, and that they take turns. What consists of several pieces has its seat until all of
them are done: who was let in is not refused with half of the work behind him. What is begun is
ended, also when nobody waits any more.
Must not know: what is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar

from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.shares import Shares
from sidecar.control.api.turns import Turns, Whose
from sidecar.model import Person

T = TypeVar("T")

WAITING_MAX: Final = 4


class Seat:
    """Of one who was let in. Piece after piece, each with a turn of its own."""

    def __init__(self, executor: Executor, turns: Turns, whose: Whose) -> None:
        self._executor, self._turns, self._whose = executor, turns, whose
        self._begun: asyncio.Future[Any] | None = None

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` gives, computed apart."""
        await self._turns.take(self._whose)
        try:
            done = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except BaseException:  # it is closed
            self._turns.give_back()
            raise
        self._begun = done
        done.add_done_callback(self._ended)
        return await asyncio.shield(done)

    def when_ended(self, then: Callable[[], None]) -> None:
        """Calls `then` when nothing of it is computed any more, maybe now."""
        if self._begun is None or self._begun.done():
            then()
        else:
            self._begun.add_done_callback(lambda _: then())

    def _ended(self, done: asyncio.Future[Any]) -> None:
        self._turns.give_back()
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits for it any more


class Backroom:
    """One thread, made when first needed."""

    def __init__(self, *, has_tenants: bool) -> None:
        """`has_tenants`: there are several, none of which may have it all."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aegis-api")
        self._turns, self._shares = Turns(1), Shares(has_tenants=has_tenants)
        self._waiting = 0

    @contextmanager
    def seat(self, person: Person) -> Iterator[Seat]:
        """A seat until the block ends, and until what was begun in it has. Raises ApiProblem if
        too many have one already, or too many of the person's."""
        if self._waiting >= WAITING_MAX:
            raise ApiProblem("too_busy", "policies or receipts are being checked already")
        with ExitStack() as held:
            held.enter_context(self._shares.one_of(WAITING_MAX, person))
            self._waiting += 1
            held.callback(self._left)
            seat = Seat(self._executor, self._turns, Whose(person.tenant, person.actor))
            try:
                yield seat
            finally:
                seat.when_ended(held.pop_all().close)

    async def do(self, person: Person, work: Callable[[], T]) -> T:
        """One piece of work in a seat of its own; raises ApiProblem as `seat` does."""
        with self.seat(person) as seat:
            return await seat.do(work)

    def _left(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Nothing more is begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)
