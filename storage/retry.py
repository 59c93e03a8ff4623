"""What the write queue does after a failure: growing pauses, and commits of unknown outcome.

Knows: when something may be tried again, and that an unknown commit is looked up, never guessed.
Must not know: lanes, batches, what entries mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from storage.errors import StoreError
from storage.queue_counters import LOOKUP_RESULTS
from storage.records import Entry, Recorded

#: First and longest pause between failed lookups.
LOOKUP_PAUSES_S = (0.2, 2.0)

Lookup = Callable[[Entry], Awaitable[Recorded | None]]


class Backoff:
    """Pauses that double with each failure in a row; `due_ns` is 0 when nothing failed."""

    __slots__ = ("_first_ns", "_longest_ns", "_now_ns", "_pause_ns", "due_ns")

    def __init__(self, first_s: float, longest_s: float, monotonic_ns: Callable[[], int]) -> None:
        self._first_ns = int(first_s * 1e9)
        self._longest_ns = int(longest_s * 1e9)
        self._now_ns = monotonic_ns
        self._pause_ns = 0
        self.due_ns = 0

    def failed(self) -> None:
        """Another failure: not again before a pause."""
        self._pause_ns = min(self._pause_ns * 2 or self._first_ns, self._longest_ns)
        self.due_ns = self._now_ns() + self._pause_ns

    def succeeded(self) -> None:
        """No pause is needed any more."""
        self._pause_ns = self.due_ns = 0

    def is_due(self) -> bool:
        """The pause, if any, is over."""
        return self.due_ns == 0 or self._now_ns() >= self.due_ns


class UnknownCommits:
    """Entries whose commit may or may not have happened, until a lookup tells.

    Their callers were refused already; `on_found(entry, recorded)` is told of those that are
    durable all the same; `results` counts what lookups said. Without a lookup nothing is kept.
    """

    def __init__(
        self,
        lookup: Lookup | None,
        on_found: Callable[[Entry, Recorded], None],
        monotonic_ns: Callable[[], int],
        results: dict[str, int] | None = None,
    ) -> None:
        self._lookup = lookup
        self._on_found = on_found
        self._results = dict.fromkeys(LOOKUP_RESULTS, 0) if results is None else results
        self._backoff = Backoff(*LOOKUP_PAUSES_S, monotonic_ns)
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def due_ns(self) -> int:
        """When to settle next, by the monotonic clock."""
        return self._backoff.due_ns

    def add(self, entries: Iterable[Entry]) -> None:
        """Remembers those that opened an intent: nothing else is left hanging by not knowing."""
        if self._lookup is not None:
            self._entries.extend(entry for entry in entries if entry.opens is not None)

    def are_due(self) -> bool:
        """Something is to be looked up, and a pause after a failed lookup is over."""
        return bool(self._entries) and self._backoff.is_due()

    async def settle(self, count_max: int) -> None:
        """Looks up at most `count_max` entries; a lookup that fails is tried again later."""
        for _ in range(min(count_max, len(self._entries))):
            entry = self._entries[0]
            try:
                recorded = await self._lookup(entry) if self._lookup is not None else None
            except StoreError:
                self._results["unknown"] += 1
                self._backoff.failed()
                return
            self._backoff.succeeded()
            self._entries.popleft()
            self._results["missing" if recorded is None else "found"] += 1
            if recorded is not None:
                self._on_found(entry, recorded)
