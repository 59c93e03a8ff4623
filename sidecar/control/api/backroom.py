"""Where work is done that computes for long: in one thread, one piece after the other.

Knows: that whoever computes takes turns with the calls that are being decided, so that there is
only ever one who does, and few who wait; that one person, and one of several tenants, is at most
half of these, and that they take turns. What is begun is ended, also when nobody waits any more.
Must not know: what is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final, TypeVar

from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.shares import Shares
from sidecar.control.api.turns import Turns, Whose
from sidecar.model import Person

T = TypeVar("T")

WAITING_MAX: Final = 4


class Backroom:
    """One thread, made when first needed."""

    def __init__(self, *, has_tenants: bool) -> None:
        """`has_tenants`: there are several, none of which may have it all."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aegis-api")
        self._turns, self._shares = Turns(1), Shares(has_tenants=has_tenants)
        self._waiting = 0

    async def do(self, person: Person, work: Callable[[], T]) -> T:
        """What `work` gives, computed apart; raises ApiProblem if too many wait already, or too
        many of the person's."""
        if self._waiting >= WAITING_MAX:
            raise ApiProblem("too_busy", "policies are being checked or replayed already")
        with ExitStack() as held:
            held.enter_context(self._shares.one_of(WAITING_MAX, person))
            self._waiting += 1
            held.callback(self._left)
            await self._turns.take(Whose(person.tenant, person.actor))
            held.callback(self._turns.give_back)
            done = asyncio.get_running_loop().run_in_executor(self._executor, work)
            # From here on it is held until the work has ended.
            begun = held.pop_all()
        done.add_done_callback(lambda ended: _ended(begun, ended))
        return await asyncio.shield(done)

    def _left(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Nothing more is begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _ended(begun: ExitStack, done: asyncio.Future[T]) -> None:
    begun.close()
    if not done.cancelled():
        done.exception()  # seen, also where nobody waits for it any more
