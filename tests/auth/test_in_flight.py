"""Logins in flight: right ones do not stand in each other's way, and no guess is gained."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

import dev
from tests.stage.limits import DEFAULTS, WRONG, assert_limited, log_in
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.waiting import served
from tokenservice.web.attempts import UNSETTLED_SECONDS
from tokenservice.web.counters import Counters, Log, Memory

# Every test starts with empty counters.
pytestmark = pytest.mark.usefixtures("counters")
#: A tenth of the usual cost: logins are in flight together, and none waits for two seconds.
COST = 2048
LOGS = [Log("login", "a", 5, 5, 60), Log("login-network", "b", 10, 100, 3600)]


@pytest.fixture
def slowly(limited: Callable[..., FlaskClient]) -> FlaskClient:
    """A client of a limited app."""
    return limited(**DEFAULTS, argon2_memory_kib=COST, web_concurrency=1)


@pytest.fixture
def ana(make_app: Callable[..., Flask]) -> Person:
    """With a hash of this cost, which no login renews."""
    return enrol(make_app(argon2_memory_kib=COST).test_client().post)


def at_once(client: FlaskClient, correo: str, *passwords: str) -> Counter[int]:
    """Log in with all ``passwords`` at the same time; count the statuses."""

    def attempt(password: str) -> int:
        caller = client.application.test_client()
        # A 503 counts nothing, and too many attempts in flight are told by a 429.
        return served(lambda: log_in(caller, correo, password)).status_code

    with ThreadPoolExecutor(len(passwords)) as threads:
        return Counter(threads.map(attempt, passwords))


def test_right_logins_of_one_account_at_once_all_succeed(slowly: FlaskClient, ana: Person) -> None:
    """Guard: ``login_limits.patiently``. They are more than may fail, and none fails."""
    assert at_once(slowly, ana.correo, *[PASSWORD] * 16) == {200: 16}


def test_they_succeed_with_room_for_one_failure_alone(slowly: FlaskClient, ana: Person) -> None:
    assert at_once(slowly, ana.correo, *[WRONG] * 4) == {401: 4}
    assert at_once(slowly, ana.correo, *[PASSWORD] * 6) == {200: 6}
    assert log_in(slowly, ana.correo, WRONG).status_code == 401
    assert_limited(log_in(slowly, ana.correo, PASSWORD), "login")


def test_guesses_among_right_logins_are_no_more_than_the_limit(
    slowly: FlaskClient, ana: Person
) -> None:
    """No guess is checked that could be one too many. Guard: attempts in flight count."""
    found = at_once(slowly, ana.correo, *[PASSWORD, WRONG, WRONG] * 4)
    assert found[401] == 5
    assert set(found) <= {200, 401, 429}
    assert_limited(log_in(slowly, ana.correo, PASSWORD), "login")


def test_an_attempt_that_waits_for_others_in_vain_is_told_so_and_counts_nothing(
    limited: Callable[..., FlaskClient], ana: Person, counters: redis.Redis
) -> None:
    """Guard: the bound of ``login_limits.patiently``."""
    client = limited(**DEFAULTS)
    assert log_in(client, ana.correo, WRONG).status_code == 401
    [pair] = counters.keys("rate:login:*")
    [(_, counted_at)] = counters.zrange(pair, 0, -1, withscores=True)
    for n in range(4):  # In flight, and never settled.
        counters.zadd(pair, {f"flying {n}": counted_at + 0.5})
    began = time.monotonic()
    refused = log_in(client, ana.correo, PASSWORD)
    assert 2 <= time.monotonic() - began < UNSETTLED_SECONDS - 1
    assert refused.status_code == 503
    assert refused.get_json()["code"] == "busy"
    assert refused.headers["Retry-After"] == "1"
    assert counters.zcard(pair) == 5


@pytest.fixture(params=["in Redis", "in memory"])
def counting(
    request: pytest.FixtureRequest, make_app: Callable[..., Flask], own_redis: dev.Redis
) -> Counters:
    """Counters of one process, with Redis and without."""
    url = own_redis.url if request.param == "in Redis" else "redis://127.0.0.1:1/0"
    found = make_app(redis_url=url, web_concurrency=1).extensions["Counters"]
    assert isinstance(found, Counters)
    return found


def test_a_log_full_of_attempts_in_flight_may_have_room_soon(counting: Counters) -> None:
    """Until as many of them have failed. Guard: ``in_flight`` and FAIL; ``Memory._settled``."""
    flying = [counting.attempt(LOGS) for _ in range(5)]
    assert not any(attempt.refused for attempt in flying)
    early = counting.attempt(LOGS)
    assert (early.refused, early.may_pass) == (True, True)
    counting.give_back(flying.pop(), remember=False)
    flying.append(counting.attempt(LOGS))
    assert not flying[-1].refused
    for attempt in flying:
        assert counting.attempt(LOGS).may_pass
        counting.fail(attempt)
    late = counting.attempt(LOGS)
    assert (late.refused, late.may_pass) == (True, False)


def test_a_failure_keeps_its_time_and_is_counted_once(counting: Counters) -> None:
    began = time.monotonic()
    attempt = counting.attempt(LOGS)
    ended = time.monotonic()
    time.sleep(0.3)
    for _ in range(2):
        counting.fail(attempt)
    now = [counting.attempt(LOGS).verdicts[0] for _ in range(3)]
    assert now[0].remaining == 3
    # A stall makes this time late.
    room_at = min(verdict.room_at for verdict in now)
    assert began - 0.1 < room_at - LOGS[0].seconds < ended + 0.25


def test_a_log_full_of_failures_decides_beside_one_of_attempts_in_flight(
    counting: Counters,
) -> None:
    """Guard: ``may_pass and`` in ATTEMPT, ``all`` in ``Memory.attempt``."""
    short, long = Log("login", "c", 2, 2, 60), Log("login-network", "d", 2, 2, 3600)
    for _ in range(2):
        counting.fail(counting.attempt([long]))
        counting.attempt([short])
    for logs in ([short, long], [long, short]):
        assert counting.attempt(logs).refused
        assert not counting.attempt(logs).may_pass
    assert counting.attempt([short]).may_pass


def test_an_attempt_that_is_never_settled_has_failed(
    limited: Callable[..., FlaskClient], counters: redis.Redis
) -> None:
    """Its worker died. Guard: ``UNSETTLED_SECONDS``."""
    counting = limited().application.extensions["Counters"]
    log = Log("login", "e", 1, 1, 60)
    counting.attempt([log])
    assert counting.attempt([log]).may_pass
    [attempt] = counters.zrange("rate:e", 0, -1)
    counters.zincrby("rate:e", -UNSETTLED_SECONDS * 1_000_000, attempt)
    assert counting.attempt([log]).refused
    assert not counting.attempt([log]).may_pass
    memory = Memory(workers=1)
    memory.attempt(time.monotonic() - UNSETTLED_SECONDS, [log])
    assert memory.attempt(time.monotonic(), [log])[:2] == [0, False]
