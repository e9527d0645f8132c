"""Prometheus metrics. Labels are endpoints and codes, never paths or accounts."""

from __future__ import annotations

import functools
import os
import struct
import time
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)
from sqlalchemy import Engine, event

from tokenservice.telemetry.calls import Call

# gunicorn.conf.py names the folder of the metrics. One that a shell names is another program's.
if os.environ.get("METRICS_MASTER") != str(os.getpid()):
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    values.ValueClass = values.MutexValue

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

REQUESTS = Counter("http_requests", "Responses", ["endpoint", "status"])
LATENCY = Histogram("http_request_seconds", "Time to respond", ["endpoint"], buckets=SECONDS)
CREATED = Counter("onetime_tokens_created", "Tokens created")
VALIDATED = Counter("onetime_tokens_validated", "Tokens consumed by their first success")
REFUSED = Counter("onetime_tokens_refused", "Tokens refused", ["code"])
LIMITED = Counter("rate_limited", "Requests over a limit", ["limit"])
DROPPED = Counter("log_lines_dropped", "Log lines that could not be written")
REDIS = Histogram("redis_call_seconds", "Time of one Redis call", ["call"], buckets=SECONDS)
POSTGRES = Histogram("postgres_query_seconds", "Time of one Postgres query", buckets=SECONDS)
POOL = Gauge(
    "pool_connections_in_use",
    "Connections in use",
    ["pool"],
    multiprocess_mode="livesum",
)


@functools.cache
def labelled(metric: Any, *values: object) -> Any:
    """The child of ``metric`` with these labels, which have few values."""
    return metric.labels(*values)


def count(answered: Call, status: int) -> None:
    """Count a call that gets this status, and its time."""
    endpoint = answered.endpoint or "none"
    labelled(REQUESTS, endpoint, status).inc()
    labelled(LATENCY, endpoint).observe(time.perf_counter() - answered.started)


class RedisCall:
    """A context manager that times one call to Redis.

    It counts no connections: each thread has its own, and there is no pool to exhaust.
    """

    def __init__(self, call: str) -> None:
        self._seconds = labelled(REDIS, call)

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds.observe(time.perf_counter() - self._started)


def watch_engine(engine: Engine) -> None:
    """Time every query of ``engine`` and count the connections in use."""
    in_use = POOL.labels("postgres")

    @event.listens_for(engine, "checkout")
    def taken(*_: object) -> None:
        in_use.inc()

    @event.listens_for(engine, "checkin")
    def given_back(*_: object) -> None:
        in_use.dec()

    @event.listens_for(engine, "before_cursor_execute")
    def begin(
        conn: object,
        cursor: object,
        sql: str,
        params: object,
        context: object,
        *_: object,
    ) -> None:
        context._started = time.perf_counter()  # type: ignore[attr-defined]

    @event.listens_for(engine, "after_cursor_execute")
    def end(
        conn: object,
        cursor: object,
        sql: str,
        params: object,
        context: object,
        *_: object,
    ) -> None:
        POSTGRES.observe(time.perf_counter() - context._started)  # type: ignore[attr-defined]


def exposition() -> bytes:
    """All metrics in Prometheus' text format, summed over gunicorn's workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    for _ in range(100):
        try:
            return generate_latest(registry)
        except struct.error:
            # A starting worker creates its file before it fills it.
            time.sleep(0.01)
    return generate_latest(registry)
