"""Restarts under load: no request is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import redis

import dev
from tests.stage.people import Person, enrol
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.children import child
from tests.torture.haproxy import HAProxy, needs_haproxy
from tests.torture.ledger import FULL, record, trials
from tests.torture.load import Plan, crowd, during

#: Failed requests leave their tokens behind.
MANY = {"max_active": 1_000_000}
#: Seconds between two reloads: two starting workers take as much of the cores as the load does.
PAUSE_SECONDS = 2


@contextlib.contextmanager
def on_core(number: int) -> Iterator[None]:
    """Run processes started in the block on one core, as on a host of their own: a starting
    service must not take the cores of the other one."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def pair(serve: Callable[..., Service]) -> Iterator[list[Service]]:
    """Two services, each with two processes and a core."""
    settings = {"web_concurrency": 2, "trusted_proxies": 1, "drain_seconds": 2, **MANY}
    with contextlib.ExitStack() as running:
        services = []
        for number in (0, 1):
            with on_core(number):
                services.append(running.enter_context(serve(**settings)))
        yield services


@pytest.fixture(scope="module")
def proxy(pair: list[Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    with HAProxy(tmp_path_factory.mktemp("proxy"), [service.port for service in pair]) as running:
        yield running


@pytest.fixture
def someone(pair: list[Service]) -> Person:
    with httpx.Client(base_url=pair[0].url, timeout=30) as http:
        return enrol(http.post)


def half_load(port: int, person: Person) -> Plan:
    """A load of half the capacity.

    A short run shares its cores with other tests, so half of a measured capacity may soon be too
    much. It takes less than half.
    """
    plan = Plan(port, person.headers["Authorization"], addresses=20, connections=32)
    peak = during(plan, trials(10, 1)).goodput()
    return replace(plan, rate=peak / 2 if FULL else min(peak / 2, 60), connections=400)


@contextlib.contextmanager
def stopped(pair: list[Service], number: int, proxy: HAProxy) -> Iterator[None]:
    """Restart one service as a deployment does, and continue once the proxy reports it up."""
    up = f"Server service/{('one', 'two')[number]} is UP"
    before = proxy.log.read_text().count(up)
    pair[number].__exit__()
    yield
    with on_core(number):
        pair[number].__enter__()
    until(lambda: proxy.log.read_text().count(up) > before)


@needs_haproxy
def test_rolling_restarts_lose_no_request(
    pair: list[Service], proxy: HAProxy, someone: Person
) -> None:
    """Guards: ``when_ready`` in gunicorn.conf.py, and the checks of haproxy.cfg."""
    with stopped(pair, 1, proxy):
        plan = half_load(proxy.port, someone)  # of the capacity of one, while the other is down
    restarts = trials(20, 1)
    with child(crowd, plan) as clients:
        for number in range(restarts):
            with stopped(pair, number % 2, proxy):
                pass
        result = clients.end()
    failures = result.total - result.successes()
    record(
        f"Of two services behind the proxy, one at a time restarts ({restarts} times), and no "
        "request fails",
        n=result.total,
        failures=failures,
        figures=f"{plan.rate:.0f} requests/s, half of the capacity of one; "
        f"p99 {result.percentile(0.99) * 1000:.0f} ms",
    )
    assert result.total > 50
    assert not failures, (result.responses, result.failed)


@needs_haproxy
def test_a_killed_service_loses_requests(
    pair: list[Service], proxy: HAProxy, someone: Person
) -> None:
    """The twin: the same load fails on a kill, so the test above can fail."""
    plan = Plan(proxy.port, someone.headers["Authorization"], connections=16, addresses=20)
    with child(crowd, plan) as clients:
        time.sleep(0.5)
        for pid in pair[0].workers():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        result = clients.end()
    assert result.total > result.successes()
    until(lambda: len(pair[0].workers()) == 2)


def test_old_workers_stay_until_the_new_ones_serve(pair: list[Service]) -> None:
    """Guard: ``on_reload`` in gunicorn.conf.py. Without it old workers stop at once."""
    pair[0].reload()
    lines = [json.loads(line) for line in pair[0].log.read_text().splitlines()]

    def times(event: str) -> list[datetime]:
        found = [line["timestamp"] for line in lines if line["event"].startswith(event)]
        return [datetime.fromisoformat(moment) for moment in found]

    started, ended = times("Booting worker"), times("Worker exiting")
    assert (ended[-2] - started[-1]).total_seconds() > 0.5


def test_a_reload_loses_no_request(pair: list[Service], someone: Person) -> None:
    """Directly to gunicorn: after SIGHUP its old and new workers share the socket."""
    service = pair[1]
    plan = half_load(service.port, someone)
    reloads = trials(20, 1)
    with child(crowd, plan) as clients:
        for number in range(reloads):
            time.sleep(PAUSE_SECONDS if number else 0)
            service.reload()
        result = clients.end()
    failures = result.total - result.successes()
    record(
        f"A gunicorn without a proxy reloads (SIGHUP, {reloads} times), and no request fails",
        n=result.total,
        failures=failures,
        figures=f"{plan.rate:.0f} requests/s, half of its capacity; "
        f"p99 {result.percentile(0.99) * 1000:.0f} ms",
    )
    assert result.total > 20
    assert not failures, (result.responses, result.failed)


def test_sigterm_ends_readiness_first_and_lets_requests_finish(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """Guard: ``when_ready`` in gunicorn.conf.py."""
    with (
        dev.Redis(tmp_path) as slow,
        serve(
            web_concurrency=1, drain_seconds=5, redis_url=slow.url, redis_timeout_ms=10_000
        ) as service,
    ):
        with httpx.Client(base_url=service.url, timeout=30) as http:
            person = enrol(http.post)
            assert http.get("/readyz").status_code == 200

        def create() -> httpx.Response:
            return httpx.post(f"{service.url}/token/create", headers=person.headers, timeout=30)

        responses = []
        in_flight = threading.Thread(target=lambda: responses.append(create()))
        service.process.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        until(lambda: httpx.get(f"{service.url}/readyz").status_code == 503, seconds=3)
        stopping = httpx.get(f"{service.url}/readyz").json()
        assert (stopping["code"], stopping["checks"]) == ("not_ready", {"service": "stopping"})
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        assert create().status_code == 201  # It still serves.

        # Redis takes longer than the rest of the five seconds.
        time.sleep(max(0, signalled + 2 - time.monotonic()))
        redis.Redis.from_url(slow.url).client_pause(4_000)
        in_flight.start()
        service.process.wait(30)
        in_flight.join()
        stopped = time.monotonic() - signalled
        record(
            "After SIGTERM /readyz returns 503 first, and requests in flight when the sockets "
            "close succeed",
            n=1,
            failures=int(responses[0].status_code != 201),
            figures=f"stopped after {stopped:.1f} s",
        )
        assert responses[0].status_code == 201
        assert service.process.returncode == 0
        assert 5 < stopped < 30
