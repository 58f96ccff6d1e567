"""Makes metric families of readings, and text of those, as the scraper asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headrace.server.telemetry.metrics import catalogue
from headrace.server.telemetry.metrics.catalogue import METRICS, Kind
from headrace.server.telemetry.metrics.readings import Buckets, Readings

PAUSE_SECONDS = 5e-4
"""After each family. Otherwise the event loop would get the GIL back only every 5 ms while text is made."""


class Exposition:
    """Everything there is to tell, in a registry of its own. `read` is called for each scrape."""

    def __init__(self, read: Callable[[], Readings], build: Mapping[str, str], pause: float = PAUSE_SECONDS) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(read, build, pause))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that a header Accept asks for, and its content type. Raises what `read` raises."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Collector(Collector):
    def __init__(self, read: Callable[[], Readings], build: Mapping[str, str], pause: float) -> None:
        self._read = read
        self._build = build
        self._pause = pause

    def describe(self) -> list[Metric]:
        """What it collects, so that nothing is read when it is registered."""
        return [_family(metric) for metric in METRICS]

    def collect(self) -> Iterator[Metric]:
        readings = self._read()
        for metric in METRICS:
            family = _family(metric)
            if isinstance(family, InfoMetricFamily):
                family.add_metric([], dict(self._build))
            for labels, value in readings.get(metric.name, ()):
                _add(family, labels, value)
            yield family
            time.sleep(self._pause)


def _family(metric: catalogue.Metric) -> Metric:
    if metric.kind is Kind.COUNTER:
        return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    if metric.kind is Kind.GAUGE:
        return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    return InfoMetricFamily(metric.name, metric.help, labels=metric.labels)


def _add(family: Metric, labels: tuple[str, ...], value: float | Buckets) -> None:
    if isinstance(value, Buckets):
        assert isinstance(family, HistogramMetricFamily)
        total, cumulative = 0, []
        for bound, count in zip((*map(repr, value.bounds), "+Inf"), value.counts, strict=True):
            total += count
            cumulative.append((bound, float(total)))
        family.add_metric(labels, cumulative, value.sum)
    else:
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        family.add_metric(labels, value)
