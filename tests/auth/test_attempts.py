"""Password guessing: the limits by address, network and account, and the owner's access."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import dev
from tests.stage.limits import WRONG, log_in
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.service import Service
from tokenservice.web.attempts import SECOND
from tokenservice.web.counters import SLOTS, Log, Memory


@pytest.fixture(autouse=True)
def counted(own_redis: dev.Redis) -> Iterator[redis.Redis]:
    """A Redis with empty counters."""
    with redis.from_url(own_redis.url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def limited(make_app: Callable[..., Flask], own_redis: dev.Redis) -> Callable[..., FlaskClient]:
    """Make a client of an app with limited logins."""

    def make(**changes: Any) -> FlaskClient:
        settings = {"redis_url": own_redis.url, "rate_limit_login": "5 per minute", **changes}
        return make_app(**settings).test_client()

    return make


@pytest.fixture
def ana(app: Flask) -> Person:
    return enrol(app.test_client().post)


def guess(client: FlaskClient, correo: str, *addresses: str) -> Counter[int]:
    """The statuses of one wrong login from each address, as the limits judge it.

    A machine that stood still for a second answers 503, which counts nothing: the guess is made
    again, as often as the machine may stand still in one test.
    """
    found: Counter[int] = Counter()
    for address in addresses:
        status = log_in(client, correo, WRONG, address).status_code
        while status == 503 and found[503] < 3:
            found[503] += 1
            status = log_in(client, correo, WRONG, address).status_code
        found[status] += 1
    found.pop(503, None)
    return found


def policy(response: TestResponse) -> str:
    return response.headers["RateLimit-Policy"]


def exhaust(client: FlaskClient, correo: str, failures: int = 100) -> None:
    """Fail as many logins from other networks as one account allows."""
    addresses = [f"198.18.{n // 5}.1" for n in range(failures)]
    assert guess(client, correo, *addresses) == {401: failures}
    assert policy(log_in(client, correo, WRONG, "198.19.0.1")) == '"login-correo";q=100;w=3600'


# Attacks on an account, and its owner.


def test_a_refusal_by_one_limit_counts_in_no_other(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """200 concurrent requests from one address lock out no other. Guard: ``full`` in ATTEMPT."""
    client = limited()
    with ThreadPoolExecutor(8) as threads:
        responses = Counter(
            threads.map(
                lambda _: (
                    log_in(
                        client.application.test_client(), ana.correo, WRONG, "192.0.2.1"
                    ).status_code
                ),
                range(200),
            )
        )
    # A busy machine may refuse some with a 503, which counts nothing.
    assert set(responses) <= {401, 429, 503}
    assert responses[401] <= 5
    assert log_in(client, ana.correo, PASSWORD, "198.51.100.1").status_code == 200


@pytest.mark.parametrize(
    ("network", "elsewhere"),
    [("192.0.2.{}", "192.0.3.1"), ("2001:db8:1:{:x}::1", "2001:db8:2::1")],
    ids=["an IPv4 /24", "an IPv6 /48"],
)
def test_one_network_consumes_a_tenth_of_an_accounts_failures(
    network: str, elsewhere: str, limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Guard: "login-network" in ``login_limits.judge``."""
    client = limited()
    addresses = [network.format(n) for n in range(1, 41)]
    assert guess(client, ana.correo, *addresses) == {401: 10, 429: 30}
    refused = log_in(client, ana.correo, PASSWORD, addresses[-1])
    assert (refused.status_code, policy(refused)) == (429, '"login-network";q=10;w=3600')
    assert guess(client, ana.correo, elsewhere) == {401: 1}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("203.0.113.5", "203.0.113.77"),
        ("2001:db8:7::1", "2001:db8:7:ffff::2"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
def test_the_owner_of_an_exhausted_account_logs_in_from_a_known_network(
    before: str, now: str, limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Guard: the known networks in ATTEMPT."""
    client = limited()
    assert log_in(client, ana.correo, PASSWORD, before).status_code == 200
    exhaust(client, ana.correo)
    assert log_in(client, ana.correo, PASSWORD, now).status_code == 200
    assert log_in(client, ana.correo, PASSWORD, "192.0.2.1").status_code == 429


def test_a_known_network_has_a_count_of_its_own(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Its addresses share 100 failures an hour, which count for no other network."""
    client = limited()
    assert log_in(client, ana.correo, PASSWORD, "203.0.113.250").status_code == 200
    neighbours = [f"203.0.113.{n % 60}" for n in range(120)]
    assert guess(client, ana.correo, *neighbours) == {401: 100, 429: 20}
    refused = log_in(client, ana.correo, PASSWORD, "203.0.113.250")
    assert (refused.status_code, policy(refused)) == (429, '"login-network";q=100;w=3600')
    exhaust(client, ana.correo)


def test_only_a_login_makes_a_network_known_and_ten_are_remembered(
    limited: Callable[..., FlaskClient], ana: Person, counted: redis.Redis
) -> None:
    """The ten newest stay for thirty days after their last login. Guard: GIVE_BACK."""
    client = limited()
    guess(client, ana.correo, "192.0.2.1")
    assert counted.keys("rate:networks:*") == []
    homes = [f"203.0.{n}.1" for n in range(11)]
    for home in homes:
        assert log_in(client, ana.correo, PASSWORD, home).status_code == 200
    [known] = counted.keys("rate:networks:*")
    assert counted.zcard(known) == 10
    assert 29 < counted.pttl(known) / 86_400_000 <= 30
    exhaust(client, ana.correo, 99)
    responses = [log_in(client, ana.correo, PASSWORD, home).status_code for home in homes]
    assert responses == [429] + [200] * 10


def test_an_unchecked_login_makes_no_network_known(
    limited: Callable[..., FlaskClient], ana: Person, counted: redis.Redis
) -> None:
    """Guard: ``remember`` in ``login_limits.settle``."""
    away = limited(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    assert log_in(away, ana.correo, PASSWORD, "192.0.2.1").status_code == 503
    assert counted.keys("rate:networks:*") == []


def test_a_network_is_forgotten_after_thirty_days(
    limited: Callable[..., FlaskClient], ana: Person, counted: redis.Redis
) -> None:
    """Even if the account is used from elsewhere. Guard: ``now - ARGV[3]`` in ATTEMPT."""
    client = limited()
    for home in ("203.0.113.1", "198.51.100.1"):
        assert log_in(client, ana.correo, PASSWORD, home).status_code == 200
    exhaust(client, ana.correo)
    [known] = counted.keys("rate:networks:*")
    [(oldest, _), _] = counted.zrange(known, 0, -1, withscores=True)
    counted.zincrby(known, -30 * 86_400_000_000, oldest)
    assert log_in(client, ana.correo, PASSWORD, "203.0.113.1").status_code == 429
    assert log_in(client, ana.correo, PASSWORD, "198.51.100.1").status_code == 200


# Malformed logins.


@pytest.mark.parametrize(
    "body",
    [{"data": b"{", "content_type": "application/json"}, {"json": {"correo": "x"}}, {"data": {}}],
    ids=["cut", "no address", "empty form"],
)
def test_malformed_logins_are_counted_for_their_sender_alone(
    body: dict[str, Any], limited: Callable[..., FlaskClient]
) -> None:
    """Guard: ``tried is None`` in ``login_limits.judge``."""
    client = limited()

    def send(address: str) -> int:
        return client.post(
            "/auth/login", environ_overrides={"REMOTE_ADDR": address}, **body
        ).status_code

    strangers = [f"192.0.{n // 200}.{n % 200}" for n in range(120)]
    assert not {429, 500} & set(map(send, strangers))
    assert [send("198.51.100.1") == 429 for _ in range(6)] == [False] * 5 + [True]


# Sliding windows.


@pytest.mark.slow
def test_no_window_of_time_holds_more_than_the_limit(
    limited: Callable[..., FlaskClient], ana: Person, counted: redis.Redis
) -> None:
    """One guess early in a window, four late, and then more. Guard: LOOK, and not COUNT."""
    client, window = limited(rate_limit_login="5 per 3 seconds"), 3.0
    passed: list[tuple[float, float]] = []
    kept = set()

    def attempt() -> None:
        sent = time.monotonic()
        if log_in(client, ana.correo, WRONG, "192.0.2.1").status_code == 401:
            passed.append((sent, time.monotonic()))

    attempt()
    time.sleep(window * 0.8)
    deadline = time.monotonic() + window
    while time.monotonic() < deadline:
        attempt()
        kept |= {counted.zcard(key) for key in counted.keys("rate:login:*")}
        time.sleep(0.02)
    assert len(passed) >= 6
    for (sent, _), (_, received) in zip(passed, passed[5:], strict=False):
        assert received - sent >= window
    assert 1 <= max(kept) <= 5  # No more is kept than counts.


def test_retry_after_is_the_time_until_a_place_is_free(
    limited: Callable[..., FlaskClient], ana: Person, counted: redis.Redis
) -> None:
    """Not until all places are free: the oldest failure leaves before the others."""
    client = limited(rate_limit_login="2 per minute")

    def age(seconds: int) -> None:
        """Let time pass for the attempts of the pair."""
        [pair] = counted.keys("rate:login:*")
        for attempt in counted.zrange(pair, 0, -1):
            counted.zincrby(pair, -seconds * SECOND, attempt)

    assert guess(client, ana.correo, "192.0.2.1") == {401: 1}
    age(40)
    assert guess(client, ana.correo, "192.0.2.1") == {401: 1}
    refused = log_in(client, ana.correo, PASSWORD, "192.0.2.1")
    wait = int(refused.headers["Retry-After"])
    assert wait <= 20
    assert refused.headers["RateLimit"] == f'"login";r=0;t={wait}'
    age(wait)
    assert guess(client, ana.correo, "192.0.2.1", "192.0.2.1") == {401: 1, 429: 1}


def test_of_full_limits_the_one_full_for_longest_is_reported(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Otherwise a client that waits for Retry-After would be refused again."""
    client = limited(rate_limit_login="10 per minute")
    assert guess(client, ana.correo, *["192.0.2.1"] * 10) == {401: 10}
    refused = log_in(client, ana.correo, PASSWORD, "192.0.2.1")
    assert policy(refused).startswith('"login-network"')
    assert int(refused.headers["Retry-After"]) > 3000


def test_a_log_over_its_quota_has_room_when_enough_attempts_have_left(
    limited: Callable[..., FlaskClient], counted: redis.Redis
) -> None:
    """For instance that of a network that is no longer known. Guard: ``count - quota`` in LOOK."""
    counters = limited().application.extensions["Counters"]
    for age in (50, 40, 30, 20, 10):
        attempt = counters.attempt([Log("login", "a", 5, 5, 60)])
        counted.zincrby("rate:a", -age * SECOND, attempt.id)
    one, four = (counters.attempt([Log("login", "a", most, most, 60)]) for most in (5, 2))
    assert one.refused
    assert four.refused
    # The fourth of the five leaves 30 s after the first.
    assert four.verdicts[0].room_at - one.verdicts[0].room_at > 25


def test_a_successful_attempt_takes_back_itself_and_no_other(
    limited: Callable[..., FlaskClient], counted: redis.Redis
) -> None:
    """Guard: ZREM of the attempt in GIVE_BACK. A second call takes back nothing more."""
    counters = limited().application.extensions["Counters"]
    logs = [Log("login", "a", 5, 5, 60)]
    first = counters.attempt(logs)
    counted.zincrby("rate:a", -30 * SECOND, first.id)
    second = counters.attempt(logs)
    assert [attempt.verdicts[0].remaining for attempt in (first, second)] == [4, 3]
    for _ in range(2):
        [now] = counters.give_back(first, remember=False)
        assert now.remaining == 4
        assert now.room_at - second.verdicts[0].room_at > 25


# Contents of Redis.


def test_refused_logins_for_made_up_addresses_leave_nothing(
    limited: Callable[..., FlaskClient], counted: redis.Redis
) -> None:
    """Of 3,000 from one address, 60 reach the three logs of an account."""
    client = limited()
    responses = Counter(
        log_in(client, f"nobody{n}@example.com", WRONG, "192.0.2.1").status_code
        for n in range(3000)
    )
    assert responses[429] >= 2800
    assert counted.dbsize() <= 1 + 3 * responses[401]


def test_redis_stores_no_address(
    limited: Callable[..., FlaskClient], ana: Person, counted: redis.Redis
) -> None:
    """Neither mail nor IP, nor a hash made without the key. Guard: ``Counters.pseudonym``."""
    client = limited(rate_limit_register="5 per minute")
    log_in(client, ana.correo, WRONG, "203.0.113.5")
    log_in(client, ana.correo, PASSWORD, "203.0.113.5")
    client.post("/auth/register", json={}, environ_overrides={"REMOTE_ADDR": "203.0.113.5"})
    kept = counted.keys()
    for key in list(kept):
        if counted.type(key) == "zset":
            kept += counted.zrange(key, 0, -1)
    stored = " ".join(kept)
    assert len(kept) > 8
    for text in (ana.correo, "203.0.113.5", "203.0.113.5/32", "203.0.113.0/24", "203.0.113"):
        assert text not in stored
        for digest in (hashlib.sha256, hashlib.sha1, hashlib.md5, hashlib.blake2b):
            assert digest(text.encode()).hexdigest()[:12] not in stored


# Without Redis.


@pytest.fixture
def without_redis(limited: Callable[..., FlaskClient]) -> FlaskClient:
    return limited(redis_url="redis://127.0.0.1:1/0", web_concurrency=2)


def test_without_redis_a_network_has_its_share_and_none_is_known(
    without_redis: FlaskClient, ana: Person
) -> None:
    """Each of two processes allows half of each limit."""
    for _ in range(3):
        assert log_in(without_redis, ana.correo, PASSWORD, "192.0.2.1").status_code == 200
    addresses = [f"192.0.2.{n}" for n in range(20)]
    assert guess(without_redis, ana.correo, *addresses) == {401: 5, 429: 15}
    strangers = [f"198.18.{n // 2}.1" for n in range(100)]
    assert guess(without_redis, ana.correo, *strangers) == {401: 45, 429: 55}
    assert log_in(without_redis, ana.correo, PASSWORD, "203.0.113.1").status_code == 429


@pytest.mark.slow
def test_without_redis_the_memory_is_bounded_and_costs_no_more_when_full() -> None:
    """Of 200,000 keys with a quota of one, no more pass than there are slots.

    Guard: ``counters.slot``.
    """
    memory = Memory(workers=1)
    begun, logs = time.thread_time(), 0
    for n in range(200_000):
        logs += memory.attempt(time.monotonic(), [Log("login", f"{n}", 1, 1, 3600)])[0]
    filling = time.thread_time() - begun
    assert 50_000 < logs <= SLOTS
    windows = Counter(memory.add(f"{n}", 3600)[0] == 1 for n in range(200_000))
    assert 50_000 < windows[True] <= SLOTS
    begun = time.thread_time()
    for n in range(200_000):
        memory.attempt(time.monotonic(), [Log("login", f"{n}", 1, 1, 3600)])
    assert time.thread_time() - begun < 3 * filling
    idle = time.thread_time()
    for n in range(50):
        memory.add(f"{n}", 3600)
        time.sleep(0.02)
    assert time.thread_time() - idle < 0.3


def test_the_trail_tells_whose_logins_a_limit_refuses(
    serve: Callable[..., Service], own_redis: dev.Redis, ana: Person, tmp_path: Path
) -> None:
    """By the same name for the account as in its failed logins, which name its id too."""
    path = tmp_path / "audit.log"
    limits = {"rate_limit_login": "5 per minute", "redis_url": own_redis.url}
    with serve(web_concurrency=1, audit_log="file", audit_path=path, **limits) as service:
        for _ in range(7):
            guessed = {"correo": ana.correo, "password": WRONG}
            httpx.post(f"{service.url}/auth/login", json=guessed, timeout=30)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["auth.login_failed"] * 5 + ["limit.exceeded"] * 2
    assert len({line["attempted"] for line in lines}) == 1
    assert {line["attempted_id"] for line in lines[:5]} == {ana.id}
    assert {line["limit"] for line in lines[5:]} == {"login"}
