"""Where work is done that computes for long: in one thread, one piece after the other.

Knows: that whoever computes takes turns with the calls that are being decided, so that there is
only ever one who does, and few who wait. What is begun is ended, also when nobody waits any more.
Must not know: what is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sidecar.control.api.problems import ApiProblem

T = TypeVar("T")

WAITING_MAX: Final = 4


class Backroom:
    """One thread, made when first needed."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aegis-api")
        self._waiting = 0

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` gives, computed apart; raises ApiProblem if too many wait already."""
        if self._waiting >= WAITING_MAX:
            raise ApiProblem("too_busy", "policies are being checked or replayed already")
        self._waiting += 1
        done = asyncio.get_running_loop().run_in_executor(self._executor, work)
        done.add_done_callback(self._ended)
        return await asyncio.shield(done)

    def _ended(self, done: asyncio.Future[T]) -> None:
        self._waiting -= 1
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits for it any more

    def close(self) -> None:
        """Nothing more is begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)
