"""How long a commit takes by the number of calls in it, and from where larger brings no more.

Knows: how to commit batches of exactly so many calls, each with the outcomes of those before it,
as a loaded sidecar does. The sizes take turns in short slices, so that whatever disturbs the
machine disturbs them all. Must not know: where the store lives, what its entries mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.errors import StoreError
from storage.open_loop import Call, quantile
from storage.records import Entry, Recorded, Seal
from storage.write_queue import RecordingStore

#: Calls in a batch. The last is beyond what a queue puts together: it tells what larger would do.
SIZES = (1, 4, 16, 64, 128, 256, 512)
SLICE_S = 0.02
#: A batch is large enough if it reaches this share of the best rate.
USEFUL_SHARE = 0.9
#: With fewer commits than this, the 99th percentile is the slowest of them.
P99_COMMITS_MIN = 100


@dataclass(frozen=True, slots=True)
class CommitTime:
    """Commits of `calls` calls each: how many were seen, their median and 99th percentile."""

    calls: int
    commits: int
    p50_s: float
    p99_s: float

    @property
    def calls_per_s(self) -> float:
        """What batches of this size carry, one after the other."""
        return self.calls / self.p50_s if self.p50_s > 0 else 0.0


class _Size:
    """One size: its commits so far, and the outcomes that its next batch carries."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.seconds: list[float] = []
        self._outcomes: list[Entry] = []

    def batch(self, make_call: Callable[[], Call]) -> list[Entry]:
        calls = [make_call() for _ in range(self.calls)]
        entries = [intent for intent, _ in calls] + self._outcomes
        self._outcomes = [outcome for _, outcome in calls]
        return entries

    def figure(self) -> CommitTime:
        seconds = sorted(self.seconds)
        return CommitTime(self.calls, len(seconds), quantile(seconds, 0.5), quantile(seconds, 0.99))


async def time_commits(
    store: RecordingStore,
    seal: Seal,
    make_call: Callable[[], Call],
    monotonic_ns: Callable[[], int],
    seconds: float,
    sizes: Sequence[int] = SIZES,
) -> tuple[CommitTime, ...]:
    """Commits batches of each size for about `seconds` in all; upkeep is part of a commit's time.

    Each size is seen at least once. Raises a StoreError if the store fails or does not record.
    """
    known = [_Size(calls) for calls in sizes]
    for one in known:
        # The first batch of a size has no outcomes to carry: it is not counted.
        await _commit(store, seal, one.batch(make_call))
    until_ns = monotonic_ns() + int(seconds * 1e9)
    while True:
        for one in known:
            slice_s = 0.0
            while slice_s < SLICE_S:
                entries = one.batch(make_call)
                started_ns = monotonic_ns()
                await _commit(store, seal, entries)
                took_s = (monotonic_ns() - started_ns) / 1e9
                one.seconds.append(took_s)
                slice_s += took_s
        if monotonic_ns() >= until_ns:
            return tuple(one.figure() for one in known)


async def _commit(store: RecordingStore, seal: Seal, entries: list[Entry]) -> None:
    answers = await store.record(entries, seal)
    await store.after_commit()
    if not all(isinstance(answer, Recorded) for answer in answers):
        raise StoreError("a batch of the measurement was not recorded as a whole")


def largest_useful_batch(times: Sequence[CommitTime]) -> int:
    """The smallest size that carries nearly what the best does; 0 of none."""
    best = max((one.calls_per_s for one in times), default=0.0)
    return min((one.calls for one in times if one.calls_per_s >= USEFUL_SHARE * best), default=0)
