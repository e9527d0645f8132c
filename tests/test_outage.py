"""What callers see while Redis is away, and how soon after."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Person, Service, enrol
from tokenservice import local


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[local.Redis]:
    with local.Redis(tmp_path) as server:
        yield server


@pytest.fixture
def exposed(serve: Callable[..., Service], own_redis: local.Redis) -> Iterator[Service]:
    """A service with the default timeouts, on a Redis that the test may stop."""
    timeouts = {"redis_connect_timeout_ms": 50, "redis_timeout_ms": 100}
    with serve(redis_url=own_redis.url, **timeouts) as running:
        yield running


@pytest.fixture
def http(exposed: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=exposed.url, timeout=30) as client:
        yield client


def refusals(http: httpx.Client, person: Person, token: str) -> list[float]:
    """Call create and validate; demand a 503 that says so; give the times in seconds."""
    times = []
    for _ in range(20):
        for path, body in (("/token/create", {}), ("/token/validate", {"token": token})):
            started = time.perf_counter()
            answer = http.post(path, json=body, headers=person.headers)
            times.append(time.perf_counter() - started)
            assert answer.status_code == 503
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] == "store_unavailable"
            assert answer.headers["Retry-After"] == "1"
    return times


def first_success(http: httpx.Client, person: Person) -> float:
    """Create and validate until both work; give the seconds that took."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        created = http.post("/token/create", headers=person.headers)
        if created.status_code == 201:
            body = {"token": created.json()["token"]}
            validated = http.post("/token/validate", json=body, headers=person.headers)
            if validated.status_code == 200:
                return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError("it did not come back")


def test_a_stopped_redis_is_a_503_at_once_and_is_used_again_at_once(
    http: httpx.Client, exposed: Service, own_redis: local.Redis
) -> None:
    """Guard: Retry(NoBackoff(), 0) in connection.py; the library's default takes seconds."""
    person = enrol(http.post)
    before = http.post("/token/create", headers=person.headers).json()["token"]
    workers = exposed.workers()

    own_redis.stop()
    assert statistics.median(refusals(http, person, before)) < 0.25
    own_redis.start()
    assert first_success(http, person) < 1

    lost = http.post("/token/validate", json={"token": before}, headers=person.headers)
    assert (lost.status_code, lost.json()["code"]) == (410, "token_lost")
    assert exposed.workers() == workers


def test_a_redis_that_hangs_is_a_503_too(
    http: httpx.Client, exposed: Service, own_redis: local.Redis
) -> None:
    """Guard: the read timeout in connection.py."""
    person = enrol(http.post)
    before = http.post("/token/create", headers=person.headers).json()["token"]

    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        assert statistics.median(refusals(http, person, before)) < 0.4
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    assert first_success(http, person) < 2
