"""Whether the store commits: what the last attempt said, and probes while there is nothing to try.

Knows: the last error and when to ask again. Must not know: lanes, batches, waiters.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from storage.errors import StoreError
from storage.queue_counters import QueueCounters
from storage.retry import Backoff

_log = logging.getLogger("aegis.store.queue")

#: First and longest pause between probes.
PROBE_PAUSES_S = (0.2, 2.0)


class Health:
    """Well until an attempt fails, and again from the next that succeeds.

    `probe` proves that a commit would succeed, or raises a StoreError.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        counters: QueueCounters,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._probe = probe
        self._counters = counters
        self._backoff = Backoff(*PROBE_PAUSES_S, monotonic_ns)
        self.is_well = True
        #: Codes that were logged since the store was well.
        self._said: set[str] = set()

    @property
    def due_ns(self) -> int:
        """When to probe next, by the monotonic clock."""
        return self._backoff.due_ns

    def is_due(self) -> bool:
        """The store is not well, and it is time to ask again."""
        return not self.is_well and self._backoff.is_due()

    async def probe(self) -> None:
        """Asks the store; its answer is the new health."""
        try:
            await self._probe()
        except StoreError as error:
            self.failed(error)
        else:
            self.succeeded()

    def succeeded(self) -> None:
        """An attempt to commit succeeded."""
        self._backoff.succeeded()
        if not self.is_well:
            self.is_well = True
            self._said.clear()
            _log.warning("the store commits again", extra={"code": self._counters.last_error_code})

    def failed(self, error: StoreError) -> None:
        """An attempt failed; of those in a row the first of each code is logged: the first of all
        often says no more than that a connection was lost."""
        self._backoff.failed()
        self.is_well = False
        self._counters.last_error_code = error.code
        self._counters.last_error, self._counters.last_error_step = str(error), error.next_step
        if error.code not in self._said:
            self._said.add(error.code)
            _log.error(
                "the store does not commit",
                extra={"code": error.code, "detail": str(error), "next_step": error.next_step},
            )
