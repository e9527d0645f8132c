"""Rate limits over the processes of one service."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import dev
from tests.stage.limits import DEFAULTS, WRONG
from tests.stage.people import enrol
from tests.stage.service import Service
from tests.stage.waiting import served

# Every test starts with empty counters.
pytestmark = pytest.mark.usefixtures("counters")


@pytest.fixture(scope="module")
def two_workers(serve: Callable[..., Service], own_redis: dev.Redis) -> Iterator[httpx.Client]:
    """A client of a limited service, with a new connection for each call."""
    settings = {
        **DEFAULTS,
        "rate_limit_create": "50 per minute",
        "rate_limit_validate": "200 per minute",
        "redis_url": own_redis.url,
    }
    with (
        serve(web_concurrency=2, **settings) as running,
        httpx.Client(base_url=running.url, timeout=30, headers={"Connection": "close"}) as http,
    ):
        yield http


def test_the_limit_is_exact_over_processes(two_workers: httpx.Client) -> None:
    """Of 200 concurrent calls over two workers, exactly 50 pass a limit of 50."""
    someone = enrol(two_workers.post)

    def create(_: int) -> int:
        call = served(lambda: two_workers.post("/token/create", headers=someone.headers))
        return int(call.status_code)

    with ThreadPoolExecutor(32) as threads:
        assert Counter(threads.map(create, range(200))) == {201: 50, 429: 150}


def test_a_large_limit_admits_no_call_more(two_workers: httpx.Client) -> None:
    """Of 400 concurrent calls under a limit of 200, which workers count by fours up to its half.

    Permits that the one has left do not serve the callers of the other.
    """
    someone = enrol(two_workers.post)
    token = {"token": "ott_" + "0" * 44}

    def validate(_: int) -> int:
        call = {"headers": someone.headers, "json": token}
        return int(served(lambda: two_workers.post("/token/validate", **call)).status_code)

    with ThreadPoolExecutor(32) as threads:
        statuses = Counter(threads.map(validate, range(400)))
    assert 197 <= 400 - statuses[429] <= 200
    assert len(statuses) == 2


def guess(two_workers: httpx.Client, correo: str) -> int:
    body = {"correo": correo, "password": WRONG}
    return two_workers.post("/auth/login", json=body).status_code


def test_concurrent_guesses_are_counted_before_they_are_checked(two_workers: httpx.Client) -> None:
    """Guard: ``login_limits.settle`` takes back; it does not count after the response."""
    with ThreadPoolExecutor(16) as threads:
        responses = Counter(threads.map(lambda _: guess(two_workers, "a@example.com"), range(16)))
    # A busy machine may refuse some with a 503, which checks and counts nothing.
    assert set(responses) <= {401, 429, 503}
    assert 1 <= responses[401] <= 5


def test_without_redis_all_processes_together_keep_the_limit(
    two_workers: httpx.Client, restored: dev.Redis
) -> None:
    """Five failures over two workers are two each, however the connections are spread."""
    restored.stop()
    responses = Counter(guess(two_workers, "b@example.com") for _ in range(30))
    assert set(responses) <= {401, 429, 503}
    assert 2 <= responses[401] <= 4
    restored.start()
    time.sleep(2)
    assert [guess(two_workers, "c@example.com") for _ in range(6)] == [401] * 5 + [429]
