"""What the write queue counts: plain numbers, rendered elsewhere.

Knows: the numbers and their units. Must not know: how they are published.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
COMMIT_SECONDS_BUCKETS = (
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
#: What a lookup can say: there is a receipt, there is none, or it could not be asked.
LOOKUP_RESULTS = ("found", "missing", "unknown")
REJECTIONS = ("full", "timeout", "closed", "error")


@dataclass(slots=True)
class LaneCounters:
    """Of one lane: how many were accepted, and how many turned away, by reason.

    Every entry that was turned away counts under exactly one reason: `full` and `closed` were
    never accepted; `timeout` and `error` were, and their callers were told so later.
    """

    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REJECTIONS, 0))


@dataclass(slots=True)
class QueueCounters:
    """Of the whole queue. Histogram counts are per bucket, the last one is above all bounds.

    `abandoned` entries became durable after their caller had given up. `unknown` entries met a
    commit of unknown outcome and are still to be looked up. `dropped_outcomes` could not be
    recorded although nobody waits for them: their calls stay open until the next start.
    `lookups` counts what looking them up said: found, missing, or unknown still.
    `commit_seconds` are of commits alone, without upkeep and failed batches.
    """

    committed: LaneCounters = field(default_factory=LaneCounters)
    queued: LaneCounters = field(default_factory=LaneCounters)
    batches: int = 0
    failed_batches: int = 0
    entries: int = 0
    abandoned: int = 0
    unknown: int = 0
    lookups: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOOKUP_RESULTS, 0))
    dropped_outcomes: int = 0
    commit_seconds: float = 0.0
    #: Of the last attempt that failed: its code, the reason, and what an operator can do.
    last_error_code: str = ""
    last_error: str = ""
    last_error_step: str = ""
    batch_size_counts: list[int] = field(
        default_factory=lambda: [0] * (len(BATCH_SIZE_BUCKETS) + 1)
    )
    commit_seconds_counts: list[int] = field(
        default_factory=lambda: [0] * (len(COMMIT_SECONDS_BUCKETS) + 1)
    )

    def committed_batch(self, entries: int, took_s: float) -> None:
        """One batch that was committed."""
        self.batches += 1
        self.entries += entries
        self.commit_seconds += took_s
        self.batch_size_counts[bisect_left(BATCH_SIZE_BUCKETS, entries)] += 1
        self.commit_seconds_counts[bisect_left(COMMIT_SECONDS_BUCKETS, took_s)] += 1
