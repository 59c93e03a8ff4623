"""How numbers are read: those that there always are, and those of rooms that a sidecar may or may
not keep: signed heads, approvals, callers, deliveries.

Knows: that where there is no such room there is no sample.
Must not know: the names of metrics, who counts what when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from sidecar.telemetry.sources import (
    ApprovalCounts,
    Buckets,
    CallerCounts,
    CheckpointCounts,
    DeliveryCounts,
    ExportCounts,
    NoticeCounts,
    Sample,
    Scrape,
    WatchCounts,
)


def one(value: Callable[[Scrape], float]) -> Callable[[Scrape], Iterable[Sample]]:
    """A number without labels."""
    return lambda scrape: [((), value(scrape))]


def each(values: Callable[[Scrape], Mapping[str, float]]) -> Callable[[Scrape], Iterable[Sample]]:
    """Numbers by one label."""
    return lambda scrape: [((str(name),), number) for name, number in values(scrape).items()]


def of_checkpoints(
    value: Callable[[CheckpointCounts], float],
) -> Callable[[Scrape], Iterable[Sample]]:
    """No sample where nothing is signed."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        counts = scrape.sources.checkpoints
        return [] if counts is None else [((), value(counts))]

    return read


def of_exports(value: Callable[[ExportCounts], float]) -> Callable[[Scrape], Iterable[Sample]]:
    """By target, as the configuration names it."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        counts = scrape.sources.checkpoints
        return [] if counts is None else [((one.name,), value(one)) for one in counts.exporters]

    return read


def export_failures(scrape: Scrape) -> Iterator[Sample]:
    """By target and reason."""
    counts = scrape.sources.checkpoints
    for one in () if counts is None else counts.exporters:
        for reason, count in one.failures_total.items():
            yield (one.name, reason), count


def of_approvals(
    scrape: Scrape, value: Callable[[ApprovalCounts], float | Buckets]
) -> Iterable[Sample]:
    """No sample where nobody approves."""
    approvals = scrape.sources.approvals
    return [] if approvals is None else [((), value(approvals))]


def approval_results(scrape: Scrape) -> Iterable[Sample]:
    """By what approvals came to."""
    approvals = scrape.sources.approvals
    if approvals is None:
        return []
    return [((result,), count) for result, count in approvals.register.results.items()]


def delivery_results(scrape: Scrape) -> Iterable[Sample]:
    """By sink and result; no sample where nobody is told."""
    deliveries = scrape.sources.deliveries
    return [] if deliveries is None else list(deliveries.results.items())


def of_deliveries(
    values: Callable[[DeliveryCounts], Mapping[str, float]],
) -> Callable[[Scrape], Iterable[Sample]]:
    """By sink; no sample where nobody is told."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        deliveries = scrape.sources.deliveries
        return [((name,), n) for name, n in values(deliveries).items()] if deliveries else []

    return read


def of_callers(
    values: Callable[[CallerCounts], Mapping[str, float]],
) -> Callable[[Scrape], Iterable[Sample]]:
    """No sample where nobody is known."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        callers = scrape.sources.callers
        return [((name,), n) for name, n in values(callers).items()] if callers else []

    return read


def of_watch(value: Callable[[WatchCounts], float]) -> Callable[[Scrape], Iterable[Sample]]:
    """No sample where nobody watches."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        watch = scrape.sources.watch
        return [] if watch is None else [((), value(watch))]

    return read


def each_of_watch(
    values: Callable[[NoticeCounts], Mapping[str, float]],
) -> Callable[[Scrape], Iterable[Sample]]:
    """No sample where nobody watches."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        watch = scrape.sources.watch
        return [((name,), n) for name, n in values(watch.counts).items()] if watch else []

    return read


def issuer_key_failures(scrape: Scrape) -> Iterable[Sample]:
    """By issuer, as the configuration names it."""
    callers = scrape.sources.callers
    sets = callers.key_sets if callers else {}
    return [((issuer,), keys.failures_total) for issuer, keys in sets.items()]


def issuer_key_ages(scrape: Scrape) -> Iterator[Sample]:
    """By issuer; no sample where none was ever fetched."""
    callers = scrape.sources.callers
    for issuer, keys in (callers.key_sets if callers else {}).items():
        age_s = keys.age_s
        if age_s is not None:
            yield (issuer,), age_s


def lockouts(scrape: Scrape) -> Iterable[Sample]:
    """No sample where nobody is known."""
    callers = scrape.sources.callers
    return [((), callers.lockouts_total)] if callers else []
