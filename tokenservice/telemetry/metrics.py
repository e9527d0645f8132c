"""Prometheus metrics. Labels are endpoints and codes, never paths or accounts.

docs/metrics.md says what each means. Those whose value is known at a scrape alone are in
ops/gauges.py and telemetry/processes.py; telemetry/exposition.py writes them all.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, values
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from tokenservice.onetime.errors import OneTimeError, StoreUnavailable
from tokenservice.onetime.values import Consumed
from tokenservice.postgres.breaker import is_outage
from tokenservice.telemetry import failures
from tokenservice.telemetry.calls import Call, current

# gunicorn.conf.py names the folder of the metrics. One that a shell names is another program's.
if os.environ.get("METRICS_MASTER") != str(os.getpid()):
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    values.ValueClass = values.MutexValue

# The files of several workers have no such times, and so no page has them.
disable_created_metrics()

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
#: The ages of a token: it lives for ten seconds, unless its creator asks for more.
AGES = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)
LIMITS = (
    *("create", "validate", "register", "login", "login-address", "login-network", "login-correo"),
    *("key-create", "key-validate"),
)
#: The kind of a failure that has no name in ``failures.KINDS``.
OTHER = "other"

counter = functools.partial(Counter, namespace="token_service")
# Of all workers that live, in sum.
gauge = functools.partial(Gauge, namespace="token_service", multiprocess_mode="livesum")
histogram = functools.partial(Histogram, namespace="token_service")

REQUESTS = counter("http_requests", "Responses", ["endpoint", "status"])
LATENCY = histogram(
    "http_request_duration_seconds", "Time to respond", ["endpoint"], buckets=SECONDS
)
LIMITED = counter("requests_limited", "Requests over a limit", ["limit"])
SHED = counter("requests_shed", "Requests refused because they waited for too long")

CREATED = counter("tokens_created", "Tokens created")
REFUSED = counter("tokens_refused", "Tokens refused", ["code"])
REVOKED = counter("tokens_revoked", "Single tokens revoked")
CUTS = counter("cuts", "Calls that revoked all tokens of an account, or a part", ["of"])
REPLAYED = counter("responses_replayed", "Responses repeated under their key", ["verb"])
# Its count is that of the tokens consumed, from which telemetry/exposition.py makes a counter.
AGE = histogram("token_age_at_consume_seconds", "Time from create to consume", buckets=AGES)
RESERVED = counter("reservations_made", "Reservations made")
COMMITTED = counter("reservations_committed", "Reservations committed")
RELEASED = counter("reservations_released", "Reservations released")

REDIS = histogram(
    "redis_call_duration_seconds", "Time of one Redis call", ["call"], buckets=SECONDS
)
POSTGRES = histogram("postgres_query_duration_seconds", "Time of one query", buckets=SECONDS)
STORE_ERRORS = counter("store_errors", "Calls that a store failed", ["store", "kind"])
POOL = gauge("connections_in_use", "Connections in use", ["pool"])

HASHES_WAITING = gauge("hashes_waiting", "Passwords that wait for a core")
HASHES_REFUSED = counter("hashes_refused", "Passwords refused because they would wait too long")
THREADS = gauge("threads", "Threads for slow requests, at most", ["pool"])
THREADS_BUSY = gauge("threads_busy", "Threads at work", ["pool"])
THREADS_AWAITED = gauge("thread_requests_waiting", "Requests that wait for a thread", ["pool"])

DROPPED = counter("log_lines_dropped", "Log lines that could not be written")


@functools.cache
def labelled(metric: Any, *values: object) -> Any:
    """The child of ``metric`` with these labels, which have few values."""
    return metric.labels(*values)


# From the start, or Prometheus would not see the first of each rise from 0 to 1.
for code in OneTimeError.kinds.keys() - {StoreUnavailable.code}:
    labelled(REFUSED, code)
for limit in LIMITS:
    labelled(LIMITED, limit)
for part in ("all", "purpose", "subject"):
    labelled(CUTS, part)
for verb in ("create", "consume", "reserve", "commit"):
    labelled(REPLAYED, verb)
for store in ("redis", "postgres"):
    for kind in (*failures.KINDS, OTHER):
        labelled(STORE_ERRORS, store, kind)


def count(answered: Call, status: int) -> None:
    """Count a call that gets this status, and its time."""
    endpoint = answered.endpoint or "none"
    labelled(REQUESTS, endpoint, status).inc()
    labelled(LATENCY, endpoint).observe(time.perf_counter() - answered.started)


def consumed(token: Consumed, *, is_commit: bool) -> None:
    """Count a first success and the age of its token, or a replay."""
    if token.replayed:
        labelled(REPLAYED, "commit" if is_commit else "consume").inc()
        return
    AGE.observe((token.consumed_at - token.created_at).total_seconds())
    if is_commit:
        COMMITTED.inc()


def failed(store: str, error: BaseException) -> None:
    """Count a call that ``store`` failed, by the kind of its failure."""
    kind = failures.kind(error)
    labelled(STORE_ERRORS, store, kind if kind in failures.KINDS else OTHER).inc()


class RedisCall:
    """A context manager that times one call to Redis, and counts its failure.

    It counts no connections: each thread has its own, and there is no pool to exhaust.
    """

    def __init__(self, call: str) -> None:
        self._seconds = labelled(REDIS, call)

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        seconds = time.perf_counter() - self._started
        self._seconds.observe(seconds)
        if asked := current.get():
            asked.redis_seconds += seconds
        if isinstance(error, StoreUnavailable):
            failed("redis", error)


def watch_engine(engine: Engine) -> None:
    """Time every query of ``engine``, and count its failures and the connections in use."""
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
        seconds = time.perf_counter() - context._started  # type: ignore[attr-defined]
        POSTGRES.observe(seconds)
        if asked := current.get():
            asked.postgres_seconds += seconds

    @event.listens_for(engine, "handle_error")
    def fail(context: ExceptionContext) -> None:
        if (error := context.sqlalchemy_exception) and is_outage(error):
            failed("postgres", error)
