"""Permits: counts that a process takes by the handful while a limit is far from its quota."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis

import dev
from tests.stage.connections import connect
from tokenservice.web import permits
from tokenservice.web.counters import Counters
from tokenservice.web.permits import MOST, PART, Permits, handful


@contextmanager
def untimed(_: str) -> Iterator[None]:
    yield


@contextmanager
def late(_: str) -> Iterator[None]:
    yield
    time.sleep(0.2)


def process(
    server: dev.Redis, timed: Callable[[str], AbstractContextManager[None]] = untimed
) -> Counters:
    """The counters of one process of several."""
    connection = connect(server.url, connect_ms=2000, read_ms=5000, connections=8)
    return Counters(connection, workers=2, secret=b"secret", timed=timed)


def trips(server: dev.Redis) -> int:
    client = redis.Redis.from_url(server.url)
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_a_handful_is_a_small_part_of_a_quota() -> None:
    """A default of 60 a minute is counted one by one."""
    assert [handful(quota) for quota in (1, 60, 99, 100, 600, 10**9)] == [1, 1, 1, 2, 12, MOST]


def test_a_limit_far_from_its_quota_is_seldom_counted_in_redis(redis_server: dev.Redis) -> None:
    quota, key = 10 * PART, secrets.token_hex(8)
    counters = process(redis_server)
    counters.add(key, 3600, quota)
    before = trips(redis_server)
    assert [counters.add(key, 3600, quota)[0] for _ in range(99)] == [*range(2, 101)]
    assert trips(redis_server) - before == 9
    # From half of the quota on, each call is counted by itself.
    for _ in range(quota // 2 - 100):
        counters.add(key, 3600, quota)
    before = trips(redis_server)
    assert [counters.add(key, 3600, quota)[0] for _ in range(20)] == [*range(251, 271)]
    assert trips(redis_server) - before == 20


def test_no_count_is_given_twice_and_none_is_lost(redis_server: dev.Redis) -> None:
    """Two processes admit a quota between them, and no call more. Guard: the lock of Permits."""
    quota, key = 10 * PART, secrets.token_hex(8)
    both = [process(redis_server), process(redis_server)]
    with ThreadPoolExecutor(16) as threads:
        given = list(threads.map(lambda n: both[n % 2].add(key, 3600, quota)[0], range(2 * quota)))
    # A thread that stood still keeps the rest of its handful only after the calls of all others.
    given += [counters.add(key, 3600, quota)[0] for counters in both for _ in range(PART)]
    assert sorted(count for count in given if count <= quota) == [*range(1, quota + 1)]


def test_no_permit_outlives_its_window(redis_server: dev.Redis) -> None:
    """Guard: the time of ``keep`` is from before the call."""
    counters = process(redis_server, late)
    key, other = secrets.token_hex(8), secrets.token_hex(8)
    assert counters.add(key, 3600, 1000)[0] == 1
    count, left = counters.add(key, 3600, 1000)
    assert count == 2
    assert left <= 3600 - 0.2
    assert counters.add(other, 1, 1000)[0] == 1
    time.sleep(1.1)
    assert counters.add(other, 1, 1000)[0] == 1


def test_the_permits_of_few_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: ``REMEMBERED``. What is forgotten stays counted."""
    monkeypatch.setattr(permits, "REMEMBERED", 2)
    kept = Permits()
    for name in "abc":
        kept.keep(name, 2, 3, time.monotonic() + 60)
    assert kept.take("a") is None
    assert [kept.take("c"), kept.take("c"), kept.take("c")][2] is None
