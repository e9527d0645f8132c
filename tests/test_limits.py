"""The named limits: how many pass, counted by whom, what the answers say, and without Redis."""

from __future__ import annotations

import dataclasses
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import dev
from config import Config
from tests.conftest import PASSWORD, Person, Service, enrol
from tokenservice.web.counters import Log

WRONG = "not the password of anyone"
DEFAULTS = {
    "rate_limit_register": "5 per minute",
    "rate_limit_login": "5 per minute",
    "rate_limit_create": "60 per minute",
    "rate_limit_validate": "600 per minute",
}


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    """A Redis that these tests may empty, fill and stop."""
    with dev.Redis(tmp_path_factory.mktemp("limits")) as server:
        yield server


@pytest.fixture(autouse=True)
def counters(own_redis: dev.Redis) -> Iterator[redis.Redis]:
    """Every test starts with nothing counted."""
    with redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def limited(
    make_app: Callable[..., Flask], app: Flask, own_redis: dev.Redis
) -> Callable[..., FlaskClient]:
    """A client of an app with some limits on, all others off."""

    def make(**changes: Any) -> FlaskClient:
        return make_app(redis_url=own_redis.url, **changes).test_client()

    return make


@pytest.fixture(scope="module")
def people(app: Flask) -> list[Person]:
    return [enrol(app.test_client().post) for _ in range(2)]


@pytest.fixture
def ana(people: list[Person]) -> Person:
    return people[0]


@pytest.fixture
def berta(people: list[Person]) -> Person:
    return people[1]


def log_in(
    client: FlaskClient, correo: str, password: str, address: str = "127.0.0.1", **more: Any
) -> TestResponse:
    return client.post(
        "/auth/login",
        json={"correo": correo, "password": password},
        environ_overrides={"REMOTE_ADDR": address},
        **more,
    )


def fields(answer: TestResponse | httpx.Response) -> tuple[str, int, int, int, int]:
    """Take the two header fields apart: name, quota, window, remaining, seconds left."""
    policy = re.fullmatch(r'"([a-z-]+)";q=(\d+);w=(\d+)', answer.headers["RateLimit-Policy"])
    state = re.fullmatch(r'"([a-z-]+)";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert policy
    assert state
    assert policy[1] == state[1]
    return policy[1], int(policy[2]), int(policy[3]), int(state[2]), int(state[3])


def assert_limited(answer: TestResponse | httpx.Response, name: str) -> None:
    assert answer.status_code == 429
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body = answer.json() if callable(answer.json) else answer.json
    assert body is not None
    assert body["code"] == "rate_limited"
    said, _, window, remaining, left = fields(answer)
    assert (said, remaining) == (name, 0)
    assert 1 <= left <= window
    assert answer.headers["Retry-After"] == str(left)


def statuses(answers: list[TestResponse]) -> list[int]:
    return [answer.status_code for answer in answers]


# What the answers say.


def test_the_limits_are_on_unless_a_setting_changes_them() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    assert {name: defaults[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("call", "policy", "remaining"),
    [
        (("/auth/register", {}), '"register";q=5;w=60', 4),
        (("/auth/login", {"correo": "a@example.com", "password": "x"}), '"login";q=5;w=60', 4),
        (("/token/create", {}), '"create";q=60;w=60', 59),
        (("/token/validate", {"token": "x"}), '"validate";q=600;w=60', 599),
    ],
    ids=["register", "login", "create", "validate"],
)
def test_a_limited_answer_says_its_policy_and_its_state(
    call: tuple[str, dict[str, str]],
    policy: str,
    remaining: int,
    limited: Callable[..., FlaskClient],
    ana: Person,
) -> None:
    """Guard: ``limits.write_headers``."""
    answer = limited(**DEFAULTS).post(call[0], json=call[1], headers=ana.headers)
    assert answer.headers["RateLimit-Policy"] == policy
    *_, said, left = fields(answer)
    assert said == remaining
    assert 58 <= left <= 60
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    ("setting", "path", "body"),
    [
        ("register", "/auth/register", {}),
        ("create", "/token/create", {"expires_in": "x"}),
        ("validate", "/token/validate", {}),
    ],
)
def test_the_call_after_the_last_is_a_429(
    setting: str,
    path: str,
    body: dict[str, str],
    limited: Callable[..., FlaskClient],
    ana: Person,
) -> None:
    client = limited(**{f"rate_limit_{setting}": "3 per minute"})
    answers = [client.post(path, json=body, headers=ana.headers) for _ in range(5)]
    assert statuses(answers) == [422, 422, 422, 429, 429]
    assert [fields(answer)[3] for answer in answers] == [2, 1, 0, 0, 0]
    assert_limited(answers[3], setting)
    assert_limited(answers[4], setting)


def test_a_window_ends_and_is_not_prolonged_by_trying(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    client = limited(rate_limit_create="2 per second")
    assert client.post("/token/create", headers=ana.headers).status_code == 201
    client.post("/token/create", headers=ana.headers)
    deadline = time.monotonic() + 10
    while client.post("/token/create", headers=ana.headers).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_off_is_off(limited: Callable[..., FlaskClient], ana: Person) -> None:
    """No counting and no header, of none of the limits of a login either."""
    client = limited(**dict.fromkeys(DEFAULTS, "off"))
    answers = [log_in(client, ana.correo, WRONG) for _ in range(70)]
    assert set(statuses(answers)) == {401}
    answers += [client.post("/token/create", headers=ana.headers) for _ in range(5)]
    answers += [client.post("/auth/register", json={}) for _ in range(10)]
    for answer in answers:
        assert not [name for name, _ in answer.headers if name.lower().startswith("ratelimit")]


def test_calls_without_a_limit_carry_no_fields(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    client = limited(**DEFAULTS)
    for answer in (client.get("/auth/me", headers=ana.headers), client.get("/healthz")):
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers


# Who is counted, and what.


@pytest.mark.parametrize(
    "body",
    [
        {"data": b""},
        {"data": b"{", "content_type": "application/json"},
        {"data": b"[" * 9000, "content_type": "application/json"},
        {"data": b"\xff", "content_type": "application/json"},
        {"data": b"x" * 20_000, "content_type": "application/json"},
        {"data": b"hello", "content_type": "text/plain"},
        {"json": []},
        {"json": {"correo": 1, "password": []}},
        {"json": {"token": None}},
    ],
    ids=["none", "cut", "deep", "not-utf8", "huge", "plain", "list", "types", "null"],
)
@pytest.mark.parametrize("path", ["/auth/register", "/auth/login", "/token/validate"])
def test_refused_bodies_count(
    path: str, body: dict[str, Any], limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Guard: ``@limited`` stands above the reading of the body."""
    client = limited(
        rate_limit_register="2 per minute",
        rate_limit_login="2 per minute",
        rate_limit_validate="2 per minute",
    )
    answers = [client.post(path, headers=ana.headers, **body) for _ in range(3)]
    assert {answer.status_code for answer in answers[:2]} <= {400, 413, 415, 422}
    assert_limited(answers[2], path.rpartition("/")[2])


@pytest.mark.parametrize("path", ["/token/create", "/token/validate"])
def test_token_calls_are_counted_by_user_not_by_address(
    path: str, limited: Callable[..., FlaskClient], ana: Person, berta: Person
) -> None:
    """Guard: ``limits.by_caller``."""
    client = limited(rate_limit_create="2 per minute", rate_limit_validate="2 per minute")

    def call(someone: Person, address: str) -> int:
        return client.post(
            path,
            json={"no": "such field"},
            headers=someone.headers,
            environ_overrides={"REMOTE_ADDR": address},
        ).status_code

    assert [call(ana, f"192.0.2.{n}") for n in range(1, 4)] == [422, 422, 429]
    assert call(berta, "192.0.2.1") == 422


def test_a_token_call_without_a_caller_counts_for_nobody(
    limited: Callable[..., FlaskClient],
) -> None:
    client = limited(rate_limit_create="1 per minute")
    answers = [client.post("/token/create") for _ in range(3)]
    assert statuses(answers) == [401, 401, 401]


def test_five_wrong_passwords_shut_out_even_the_right_one(
    limited: Callable[..., FlaskClient], ana: Person, berta: Person
) -> None:
    """But not another account, nor the same account from another address (ASVS 5.0 V6.3.1)."""
    client = limited(**DEFAULTS)
    answers = [log_in(client, ana.correo, WRONG) for _ in range(5)]
    assert statuses(answers) == [401] * 5
    assert [fields(answer)[3] for answer in answers] == [4, 3, 2, 1, 0]
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")
    assert log_in(client, berta.correo, PASSWORD).status_code == 200
    assert log_in(client, ana.correo, PASSWORD, "192.0.2.7").status_code == 200


def test_a_successful_login_is_no_failure(limited: Callable[..., FlaskClient], ana: Person) -> None:
    """Guard: ``attempts.settle``."""
    client = limited(**DEFAULTS)
    answers = [log_in(client, ana.correo, PASSWORD) for _ in range(12)]
    assert statuses(answers) == [200] * 12
    assert {fields(answer)[3] for answer in answers} == {5}
    # Nor does it forgive those before it, or a guesser with an account of his own would go on.
    assert statuses([log_in(client, ana.correo, WRONG) for _ in range(5)]) == [401] * 5
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")


def test_a_login_that_could_not_be_checked_is_no_failure(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Nobody is shut out for an outage of Postgres. Guard: the 500 in ``attempts.settle``."""
    away = limited(**DEFAULTS, database_url="postgresql://nobody@127.0.0.1:1/nothing")
    assert statuses([log_in(away, ana.correo, PASSWORD) for _ in range(8)]) == [503] * 8
    client = limited(**DEFAULTS)
    assert statuses([log_in(client, ana.correo, WRONG) for _ in range(6)]) == [401] * 5 + [429]


def test_all_spellings_of_a_correo_are_counted_as_one(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Guard: ``correo.canonical`` in ``attempts.account``."""
    client = limited(**DEFAULTS)
    local_part, _, domain = ana.correo.partition("@")
    full_width = "".join(chr(ord(letter) + 0xFEE0) for letter in "person")
    spellings = [
        ana.correo,
        ana.correo.upper(),
        f"  {ana.correo}\t",
        f"{local_part.title()}@{domain.upper()}",
        local_part.replace("person", full_width) + f"@{domain}",
    ]
    assert statuses([log_in(client, spelling, WRONG) for spelling in spellings]) == [401] * 5
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")
    form = {"username": ana.correo.upper(), "password": PASSWORD}
    assert_limited(client.post("/auth/login", data=form), "login")


def test_one_address_may_try_sixty_times_a_minute(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Over all accounts, and successes count: each costs a hash."""
    client = limited(**DEFAULTS)
    answers = [log_in(client, ana.correo, PASSWORD) for _ in range(10)]
    answers += [log_in(client, f"x{n}@example.com", WRONG) for n in range(50)]
    assert Counter(statuses(answers)) == {200: 10, 401: 50}
    refused = log_in(client, "y@example.com", WRONG)
    assert_limited(refused, "login-address")
    assert refused.headers["RateLimit-Policy"] == '"login-address";q=60;w=60'
    assert log_in(client, "y@example.com", WRONG, "192.0.2.1").status_code == 401


def test_one_account_takes_a_hundred_failures_an_hour_from_everywhere(
    limited: Callable[..., FlaskClient], ana: Person, berta: Person
) -> None:
    """NIST SP 800-63B-4 section 3.2.2."""
    client = limited(**DEFAULTS)
    for n in range(100):
        assert log_in(client, ana.correo, WRONG, f"192.0.{n // 5}.1").status_code == 401
    refused = log_in(client, ana.correo, WRONG, "192.0.200.1")
    assert_limited(refused, "login-correo")
    assert refused.headers["RateLimit-Policy"] == '"login-correo";q=100;w=3600'
    assert log_in(client, berta.correo, PASSWORD, "192.0.200.1").status_code == 200


def test_redis_holds_no_correo(
    limited: Callable[..., FlaskClient], ana: Person, counters: redis.Redis
) -> None:
    log_in(limited(**DEFAULTS), ana.correo, WRONG)
    keys = [key.decode() for key in counters.scan_iter()]
    assert len(keys) == 4
    assert all(key.startswith("rate:") for key in keys)
    assert not [key for key in keys if ana.correo in key or ana.correo.partition("@")[0] in key]
    assert all(0 < counters.pttl(key) <= 3_600_000 for key in keys)


# Addresses.


def register_from(client: FlaskClient, address: str, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(
        "/auth/register", json={}, headers=names, environ_overrides={"REMOTE_ADDR": address}
    ).status_code


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        # How a socket that takes both families names an IPv4 client.
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_ipv6_client_is_its_whole_network(
    one: str, two: str, together: bool, limited: Callable[..., FlaskClient]
) -> None:
    """It may use each of a /64's addresses. Guard: ``limits.address``."""
    client = limited(rate_limit_register="1 per minute")
    assert register_from(client, one) == 422
    assert register_from(client, two) == (429 if together else 422)


@pytest.mark.parametrize(
    "name",
    ["X_Forwarded_For", "Forwarded", "X_Real_IP", "X_Client_IP", "True_Client_IP"],
)
def test_no_header_changes_the_address_of_a_client(
    name: str, limited: Callable[..., FlaskClient]
) -> None:
    """With ``trusted_proxies`` at 0, 200 made-up addresses gain nothing (ASVS 5.0 V4.1.3)."""
    client = limited(rate_limit_register="5 per minute")
    made_up = [
        f"for=198.51.100.{n}" if name == "Forwarded" else f"198.51.100.{n}" for n in range(200)
    ]
    answers = Counter(register_from(client, "192.0.2.1", **{name: value}) for value in made_up)
    assert answers == {422: 5, 429: 195}


def test_one_trusted_proxy_names_the_client(limited: Callable[..., FlaskClient]) -> None:
    """Only the last address is the proxy's word; those before it are the client's own."""
    client = limited(rate_limit_register="5 per minute", trusted_proxies=1)
    for n in range(20):
        assert register_from(client, "10.0.0.1", X_Forwarded_For=f"198.51.100.{n}") == 422
    # A quote left open would swallow the proxy's word, for one who reads the list by RFC 9110.
    made_up = ['"' * (n % 2) + f"198.51.100.{n}, 203.0.113.9" for n in range(50)]
    answers = Counter(register_from(client, "10.0.0.1", X_Forwarded_For=value) for value in made_up)
    assert answers == {422: 5, 429: 45}


@pytest.mark.parametrize(
    "value",
    ["unknown", "_hidden", "203.0.113.9:4711", "[2001:db8::1]:4711", "\u00e9", "a, b", "-1"],
)
def test_a_proxy_that_names_no_address_is_no_error(
    value: str, limited: Callable[..., FlaskClient]
) -> None:
    """Such names are counted too: a client whom a proxy cannot name is no free client."""
    client = limited(rate_limit_register="2 per minute", trusted_proxies=1)
    answers = [register_from(client, "10.0.0.1", X_Forwarded_For=value) for _ in range(3)]
    assert answers == [422, 422, 429]


# Many processes, and the cost.


@pytest.fixture(scope="module")
def two_workers(serve: Callable[..., Service], own_redis: dev.Redis) -> Iterator[httpx.Client]:
    """A service with limits, each call to it on a connection of its own."""
    settings = {**DEFAULTS, "rate_limit_create": "50 per minute", "redis_url": own_redis.url}
    with (
        serve(web_concurrency=2, **settings) as running,
        httpx.Client(base_url=running.url, timeout=30, headers={"Connection": "close"}) as http,
    ):
        yield http


def test_the_limit_is_exact_over_processes(two_workers: httpx.Client) -> None:
    """200 calls at once over two workers at a limit of 50: 50 pass, not one more or less."""
    someone = enrol(two_workers.post)

    def create(_: int) -> int:
        return two_workers.post("/token/create", headers=someone.headers).status_code

    with ThreadPoolExecutor(32) as threads:
        assert Counter(threads.map(create, range(200))) == {201: 50, 429: 150}


def commands(counters: redis.Redis, call: Callable[[], Any]) -> Counter[str]:
    """Which commands clients sent while ``call`` ran; those inside a script are no round trips."""
    with counters.monitor() as monitor:
        counters.echo("begin")
        call()
        counters.echo("end")
        seen: Counter[str] = Counter()
        for told in monitor.listen():
            name = str(told["command"]).split()[0].upper()
            if told["command"] == "ECHO end":
                return seen
            if name == "ECHO":
                seen.clear()  # What came before is how our own client connects.
                continue
            if told["client_type"] != "lua":
                seen[name] += 1
    return seen


def test_a_limit_costs_one_round_trip_and_its_fields_none(
    limited: Callable[..., FlaskClient], ana: Person, counters: redis.Redis
) -> None:
    """Guard: ``limits.write_headers`` asks nothing; each script has said it."""
    client = limited(**DEFAULTS)

    def create() -> None:
        answer = client.post("/token/create", headers=ana.headers)
        assert answer.status_code == 201
        assert "RateLimit" in answer.headers

    def refused() -> None:
        assert client.post("/token/validate", json={}, headers=ana.headers).status_code == 422

    def fail() -> None:
        assert log_in(client, ana.correo, WRONG).status_code == 401

    def succeed() -> None:
        assert log_in(client, ana.correo, PASSWORD).status_code == 200

    create()  # Connects, and loads the scripts.
    succeed()
    assert commands(counters, create) == {"EVALSHA": 2}  # The limit, and the engine.
    assert commands(counters, refused) == {"EVALSHA": 1}
    assert commands(counters, fail) == {"EVALSHA": 2}  # By address; and by account.
    assert commands(counters, succeed) == {"EVALSHA": 3}  # What was counted is given back.


def guess(two_workers: httpx.Client, correo: str) -> int:
    body = {"correo": correo, "password": WRONG}
    return two_workers.post("/auth/login", json=body).status_code


def test_guesses_at_once_are_counted_before_they_are_checked(two_workers: httpx.Client) -> None:
    """Guard: ``attempts.settle``, which takes back, and not a count after the answer."""
    with ThreadPoolExecutor(16) as threads:
        answers = Counter(threads.map(lambda _: guess(two_workers, "a@example.com"), range(16)))
    # A machine that is very busy may refuse some with a 503, which checks and counts nothing.
    assert set(answers) <= {401, 429, 503}
    assert 1 <= answers[401] <= 5


# Without Redis: each process counts for itself, with its share of the limit.


@pytest.fixture
def restored(own_redis: dev.Redis, counters: redis.Redis) -> Iterator[dev.Redis]:
    """The Redis of these tests, for one that breaks it."""
    yield own_redis
    if own_redis.process is None or own_redis.process.poll() is not None:
        own_redis.start()
    own_redis.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    counters.config_set("maxmemory", "128mb")


def test_without_redis_a_login_works_and_is_limited_per_process(
    limited: Callable[..., FlaskClient], ana: Person, berta: Person, restored: dev.Redis
) -> None:
    """Five failures over two workers are two each. Guard: the ``except`` of ``Counters._ask``."""
    client = limited(**DEFAULTS, web_concurrency=2)
    restored.stop()
    assert log_in(client, berta.correo, PASSWORD).status_code == 200
    assert statuses([log_in(client, ana.correo, WRONG) for _ in range(4)]) == [401, 401, 429, 429]
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")
    assert statuses([log_in(client, berta.correo, PASSWORD) for _ in range(6)]) == [200] * 6
    assert statuses([client.post("/auth/register", json={}) for _ in range(3)]) == [422, 422, 429]

    restored.start()
    time.sleep(2)
    answers = [log_in(client, berta.correo, WRONG) for _ in range(6)]
    assert statuses(answers) == [401] * 5 + [429]
    with redis.from_url(restored.url) as counted:
        assert len(counted.keys("rate:*")) == 4


def test_without_redis_all_processes_together_keep_the_limit(
    two_workers: httpx.Client, restored: dev.Redis
) -> None:
    """Five failures over two workers: two each, however a guesser spreads his connections."""
    restored.stop()
    answers = Counter(guess(two_workers, "b@example.com") for _ in range(30))
    assert set(answers) <= {401, 429, 503}
    assert 2 <= answers[401] <= 4
    restored.start()
    time.sleep(2)
    assert [guess(two_workers, "c@example.com") for _ in range(6)] == [401] * 5 + [429]


def test_what_is_given_back_elsewhere_than_it_was_counted_is_no_credit(
    limited: Callable[..., FlaskClient], restored: dev.Redis
) -> None:
    """Redis may go or come between the two. Guard: ``Attempt.in_memory``."""
    counters = limited(**DEFAULTS, web_concurrency=2).application.extensions["Counters"]
    logs = [Log("login", "a", 5, 5, 60)]

    def remaining() -> int:
        return int(counters.attempt(logs).verdicts[0].remaining)

    before = counters.attempt(logs)
    restored.stop()
    assert counters.give_back(before, remember=False) == before.verdicts
    assert [remaining() for _ in range(2)] == [4, 1]

    within = counters.attempt([Log("login", "b", 5, 5, 60)])
    restored.start()
    time.sleep(0.6)
    assert counters.give_back(within, remember=False)[0].remaining == 5
    assert [remaining() for _ in range(2)] == [4, 3]


def test_a_redis_that_hangs_does_not_hang_logins(
    limited: Callable[..., FlaskClient], ana: Person, restored: dev.Redis
) -> None:
    """It is asked again every half second, not on every call. Guard: ``ASK_AGAIN_SECONDS``."""
    client = limited(**DEFAULTS, redis_timeout_ms=100, redis_connect_timeout_ms=50)
    assert log_in(client, ana.correo, PASSWORD).status_code == 200
    restored.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    started = time.monotonic()
    answers = [log_in(client, ana.correo, WRONG) for _ in range(10)]
    assert statuses(answers) == [401] * 2 + [429] * 8
    assert time.monotonic() - started < 3


def test_on_a_full_redis_tokens_are_validated_and_logins_limited(
    limited: Callable[..., FlaskClient], ana: Person, restored: dev.Redis, counters: redis.Redis
) -> None:
    client = limited(**DEFAULTS, web_concurrency=2)
    token = client.post("/token/create", headers=ana.headers).get_json()["token"]
    counters.config_set("maxmemory", "1")
    assert client.post("/token/create", headers=ana.headers).status_code == 503
    validated = client.post("/token/validate", json={"token": token}, headers=ana.headers)
    assert validated.status_code == 200
    assert statuses([log_in(client, ana.correo, WRONG) for _ in range(4)]) == [401, 401, 429, 429]
    counters.config_set("maxmemory", "128mb")
    time.sleep(0.6)
    assert client.post("/token/create", headers=ana.headers).status_code == 201


def test_the_memory_of_a_process_ends_with_its_window(
    limited: Callable[..., FlaskClient], restored: dev.Redis
) -> None:
    client = limited(rate_limit_register="2 per second", web_concurrency=1)
    restored.stop()
    address = f"192.0.2.{secrets.randbelow(200)}"
    assert [register_from(client, address) for _ in range(3)] == [422, 422, 429]
    deadline = time.monotonic() + 10
    while register_from(client, address) == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)
