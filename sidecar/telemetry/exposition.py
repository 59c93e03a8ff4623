"""Renders the list of metrics for Prometheus, when it asks.

Knows: prometheus_client's families and encoders. Nothing is registered globally, so two sidecars
in one process do not meet, and no `_created` series appear. Numbers are read on the event loop's
thread, where they are counted; putting them into text takes longer and is done beside it.
Must not know: where numbers come from (metrics).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sidecar.telemetry.metrics import METRICS
from sidecar.telemetry.sources import Buckets, Metric, Scrape, Sources
from sidecar.telemetry.store_surroundings import Surroundings


class Exposition:
    """`/metrics`: the sidecar's own series and the usual `process_*` of the client library."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._process = ProcessCollector(registry=None)

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, in the format the Accept header asks for."""
        look = self._sources.surroundings
        surroundings = Surroundings() if look is None else await look()
        return await asyncio.to_thread(self._encoded, self._read(surroundings), accept)

    def _read(self, surroundings: Surroundings) -> list[Family]:
        sources = self._sources
        scrape = Scrape(sources, sources.pressure(), sources.store_facts(), surroundings)
        return [_family(metric, scrape) for metric in METRICS]

    def _encoded(self, families: list[Family], accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(_Collected([*families, *self._process.collect()])), content_type


class _Collected(Collector):
    """Families that were read already, in the form the encoders take."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _family(metric: Metric, scrape: Scrape) -> Family:
    if metric.kind == "histogram":
        return _histogram(metric, scrape)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.read(scrape):
        if not isinstance(value, Buckets):
            family.add_metric(labels, float(value))
    return family


def _histogram(metric: Metric, scrape: Scrape) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.read(scrape):
        if isinstance(value, Buckets):
            bounds = [*map(floatToGoString, value.bounds), "+Inf"]
            family.add_metric(labels, list(zip(bounds, value.cumulative, strict=True)), value.total)
    return family
