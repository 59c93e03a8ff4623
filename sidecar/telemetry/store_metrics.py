"""The metrics of the write path and the store: a part of the list in metrics.py.

Must not know: who counts what when, the exposition format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from sidecar.telemetry.room_readings import each, one
from sidecar.telemetry.sources import Buckets, Metric, Sample, Scrape
from storage.queue_counters import BATCH_SIZE_BUCKETS, COMMIT_SECONDS_BUCKETS

LANES: Final = ("committed", "queued")


def _rejected(scrape: Scrape) -> Iterator[Sample]:
    counters = scrape.sources.queue.counters
    for lane, counted in zip(LANES, (counters.committed, counters.queued), strict=True):
        for reason, count in counted.rejected.items():
            yield (lane, reason), count


def _batch_size(scrape: Scrape) -> Iterable[Sample]:
    counters = scrape.sources.queue.counters
    cumulative = list(accumulate(counters.batch_size_counts))
    return [((), Buckets(BATCH_SIZE_BUCKETS, cumulative, counters.entries))]


def _commit_seconds(scrape: Scrape) -> Iterable[Sample]:
    counters = scrape.sources.queue.counters
    cumulative = list(accumulate(counters.commit_seconds_counts))
    return [((), Buckets(COMMIT_SECONDS_BUCKETS, cumulative, counters.commit_seconds))]


def _known(value: float | None) -> Iterable[Sample]:
    return [] if value is None else [((), value)]


def _backup_s(scrape: Scrape) -> Iterable[Sample]:
    at_us = scrape.surroundings.backup_at_us
    return _known(None if at_us is None else at_us / 1e6)


# fmt: off
STORE_METRICS: Final[tuple[Metric, ...]] = (
    # of the write path
    Metric("aegis_write_queue_depth", "gauge", "Entries that are not durable yet.", ("lane",),
           lambda s: [((lane,), s.sources.queue.depth(lane)) for lane in LANES]),
    Metric("aegis_write_queue_capacity", "gauge", "Most entries that may wait.", ("lane",),
           lambda s: [((lane,), s.sources.queue.capacity) for lane in LANES]),
    Metric("aegis_write_queue_reserved", "gauge",
           "Places of the queued lane kept for the outcomes of calls in flight.", (),
           one(lambda s: s.sources.queue.reserved)),
    Metric("aegis_write_queue_oldest_age_seconds", "gauge",
           "How long the oldest caller has waited for its commit.", (),
           one(lambda s: s.sources.queue.oldest_age_s())),
    Metric("aegis_write_batch_size", "histogram", "Entries in a committed batch.", (),
           _batch_size),
    Metric("aegis_write_commit_duration_seconds", "histogram",
           "Time to commit a batch, the sync included.", (), _commit_seconds),
    Metric("aegis_write_rejected_total", "counter", "Entries the queue did not make durable.",
           ("lane", "reason"), _rejected),
    Metric("aegis_write_failed_batches_total", "counter", "Batches that were not committed.", (),
           one(lambda s: s.sources.queue.counters.failed_batches)),
    Metric("aegis_write_abandoned_total", "counter",
           "Entries that were committed after their caller had given up.", (),
           one(lambda s: s.sources.queue.counters.abandoned)),
    Metric("aegis_write_unknown_commits", "gauge",
           "Entries whose commit has an unknown outcome and is still to be looked up.", (),
           one(lambda s: s.sources.queue.counters.unknown)),
    Metric("aegis_write_dropped_outcomes_total", "counter",
           "Outcomes that could not be recorded at all; should stay 0.", (),
           one(lambda s: s.sources.queue.counters.dropped_outcomes)),
    Metric("aegis_write_rows_total", "counter", "Rows written.", (),
           one(lambda s: s.facts.rows_total)),
    Metric("aegis_write_commits_total", "counter", "Transactions committed.", (),
           one(lambda s: s.facts.commits_total)),
    Metric("aegis_write_busy_ratio", "gauge",
           "Share of time the writer is busy. Not a measure of pressure: a group-commit writer "
           "is busy nearly always from a few per cent of its ceiling.", (),
           one(lambda s: s.pressure.writer_busy)),
    # of the store
    Metric("aegis_store_healthy", "gauge", "1 while commits succeed, 0 after one failed.", (),
           one(lambda s: s.sources.queue.healthy)),
    Metric("aegis_store_fenced", "gauge",
           "1 while calls are refused because the store is being moved, or was moved.", (),
           one(lambda s: s.sources.fence is not None and s.sources.fence.is_up)),
    Metric("aegis_store_commit_fixed_seconds", "gauge",
           "Fitted a: what a commit costs whatever its size.", (),
           one(lambda s: s.pressure.fixed_s)),
    Metric("aegis_store_commit_per_call_seconds", "gauge",
           "Fitted b: what each call adds to a commit.", (),
           one(lambda s: s.pressure.per_call_s)),
    Metric("aegis_store_ceiling_calls_per_second", "gauge",
           "Calls per second this store can record: 1 / (a/N + b) at the largest batch N.", (),
           one(lambda s: s.pressure.ceiling_calls_per_s)),
    Metric("aegis_store_committed_calls_per_second", "gauge",
           "Calls per second recorded over the last seconds.", (),
           one(lambda s: s.pressure.committed_calls_per_s)),
    Metric("aegis_store_headroom_calls_per_second", "gauge",
           "Ceiling less what is being recorded, never below 0.", (),
           one(lambda s: max(0.0, s.pressure.ceiling_calls_per_s
                              - s.pressure.committed_calls_per_s))),
    Metric("aegis_store_utilisation_ratio", "gauge",
           "Calls recorded per second as a share of the ceiling: the measure of pressure.", (),
           one(lambda s: s.pressure.utilisation)),
    Metric("aegis_store_busy_retries_total", "counter",
           "Times a write waited for another connection's lock.", (),
           one(lambda s: s.facts.busy_retries_total)),
    Metric("aegis_store_reopened_total", "counter", "Times the store was opened again.", (),
           one(lambda s: s.facts.reopened_total)),
    Metric("aegis_store_writable", "gauge",
           "1 while the writer has a server that takes writes, 0 while it looks for one; of a "
           "file always 1.", (), one(lambda s: s.facts.is_writable)),
    Metric("aegis_store_failovers_total", "counter",
           "Times the writer was replaced and found a server that had been promoted meanwhile.",
           (), one(lambda s: s.facts.failovers_total)),
    Metric("aegis_store_commit_lookups_total", "counter",
           "Lookups of entries whose commit had an unknown outcome, by what they said.",
           ("result",), each(lambda s: s.sources.queue.counters.lookups)),
    Metric("aegis_store_file_bytes", "gauge", "Size of the database file.", (),
           one(lambda s: s.facts.file_bytes)),
    Metric("aegis_store_wal_bytes", "gauge", "Size of the write-ahead log.", (),
           one(lambda s: s.facts.wal_bytes)),
    Metric("aegis_store_checkpoint_seconds_total", "counter", "Time spent in checkpoints.", (),
           one(lambda s: s.facts.checkpoint_seconds_total)),
    Metric("aegis_store_checkpoints_total", "counter", "Checkpoint steps.", (),
           one(lambda s: s.facts.checkpoints_total)),
    Metric("aegis_store_checkpoint_failures_total", "counter", "Checkpoint steps that failed.",
           (), one(lambda s: s.facts.checkpoint_failures_total)),
    Metric("aegis_store_last_backup_timestamp_seconds", "gauge",
           "Of a store that is a file: what time the last known copy by `store backup` is of; 0 if "
           "none is known.", (), _backup_s),
    Metric("aegis_data_disk_free_bytes", "gauge",
           "Bytes left on the disk of the store's file, or of the data folder where a server keeps "
           "the store.", (),
           lambda s: _known(s.surroundings.free_bytes)),
    Metric("aegis_store_info", "gauge", "1; the store's engine and its version.",
           ("engine", "version"), lambda s: [((s.facts.engine, s.facts.version), 1)]),
)
# fmt: on
