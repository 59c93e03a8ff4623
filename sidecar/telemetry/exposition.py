"""Renders the list of metrics for Prometheus, when it asks.

Knows: prometheus_client, on a registry of its own. Nothing is registered globally, so two
sidecars in one process do not meet, and no `_created` series appear.
Must not know: where numbers come from (metrics).
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
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


class Exposition:
    """`/metrics`: the sidecar's own series and the usual `process_*` of the client library."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(sources))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, in the format the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Collector(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        sources = self._sources
        scrape = Scrape(sources, sources.pressure(), sources.store_facts())
        for metric in METRICS:
            yield _family(metric, scrape)


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
