"""The page of all metrics, in Prometheus' text format, and their names of the version before."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

PREFIX = "token_service_"
AGES = f"{PREFIX}token_age_at_consume_seconds"
#: The names of the version before, for one version, by the names of today. A name of a counter is
#: without its ``_total``.
OLD_NAMES = {
    "http_requests": "http_requests",
    "http_request_duration_seconds": "http_request_seconds",
    "tokens_created": "onetime_tokens_created",
    "tokens_consumed": "onetime_tokens_validated",
    "tokens_refused": "onetime_tokens_refused",
    "requests_limited": "rate_limited",
    "log_lines_dropped": "log_lines_dropped",
    "redis_call_duration_seconds": "redis_call_seconds",
    "postgres_query_duration_seconds": "postgres_query_seconds",
    "connections_in_use": "pool_connections_in_use",
}


class Collector(Protocol):
    """A source of metrics whose values are known at a scrape alone."""

    def collect(self) -> Iterable[Metric]: ...


class Collectors:
    """Several sources as one, and their metrics by the old names too."""

    def __init__(self, sources: Iterable[Collector], *, old_names: bool) -> None:
        self._sources, self._old_names = sources, old_names

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics():
            yield metric
            old = OLD_NAMES.get(metric.name.removeprefix(PREFIX))
            if old and self._old_names:
                yield renamed(metric, old)

    def _metrics(self) -> Iterator[Metric]:
        for source in self._sources:
            for metric in source.collect():
                if metric.name.startswith(PREFIX):  # REGISTRY has some of the library's own.
                    yield metric
                if metric.name == AGES:
                    yield consumed(metric)


def consumed(ages: Metric) -> Metric:
    """The tokens consumed: to count each once more would cost a consume 2 µs."""
    counter = Metric(f"{PREFIX}tokens_consumed", "Tokens consumed", "counter")
    for sample in ages.samples:
        if sample.name == f"{AGES}_count":
            counter.add_sample(f"{counter.name}_total", {}, sample.value)
    return counter


def renamed(metric: Metric, name: str) -> Metric:
    """The same values by another name, so that nothing is counted twice."""
    copy = Metric(name, metric.documentation, metric.type)
    copy.samples = [
        Sample(name + sample.name.removeprefix(metric.name), *sample[1:])
        for sample in metric.samples
    ]
    return copy


def exposition(sources: Iterable[Collector], *, old_names: bool) -> bytes:
    """The metrics that were counted, summed over gunicorn's workers, and those of ``sources``."""
    counted = Counted() if "PROMETHEUS_MULTIPROC_DIR" in os.environ else REGISTRY
    registry = CollectorRegistry()
    registry.register(Collectors([counted, *sources], old_names=old_names))
    return generate_latest(registry)


class Counted:
    """The metrics in the files of all workers."""

    def collect(self) -> Iterable[Metric]:
        collector = multiprocess.MultiProcessCollector(None)
        for _ in range(100):
            try:
                return collector.collect()
            except struct.error:
                # A starting worker creates its file before it fills it.
                time.sleep(0.01)
        return collector.collect()
