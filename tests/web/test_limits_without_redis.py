"""Rate limits without Redis: each process counts its own calls, up to its share of the limit."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis
from flask.testing import FlaskClient
from prometheus_client import REGISTRY

import dev
from tests.stage.limits import DEFAULTS, WRONG, assert_limited, log_in, register_from, statuses
from tests.stage.people import PASSWORD, Person
from tokenservice.web import counters as counting
from tokenservice.web.counters import ASK_AGAIN_SECONDS, Log

# Every test starts with empty counters.
pytestmark = pytest.mark.usefixtures("counters")


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
    responses = [log_in(client, berta.correo, WRONG) for _ in range(6)]
    assert statuses(responses) == [401] * 5 + [429]
    with redis.from_url(restored.url) as counted:
        assert len(counted.keys("rate:*")) == 4


def test_an_attempt_that_is_given_back_elsewhere_is_no_credit(
    limited: Callable[..., FlaskClient], restored: dev.Redis
) -> None:
    """Redis may go or come between the two calls. Guard: ``Attempt.in_memory``."""
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
    """It is tried again every half second, not on every call. Guard: ``ASK_AGAIN_SECONDS``."""
    client = limited(**DEFAULTS, redis_timeout_ms=100, redis_connect_timeout_ms=50)
    assert log_in(client, ana.correo, PASSWORD).status_code == 200
    restored.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]

    def asked() -> float:
        name = "token_service_redis_call_duration_seconds_count"
        return REGISTRY.get_sample_value(name, {"call": "limit"}) or 0

    before, started = asked(), time.monotonic()
    assert before > 0
    responses = [log_in(client, ana.correo, WRONG) for _ in range(10)]
    assert statuses(responses) == [401] * 2 + [429] * 8
    assert asked() - before <= 1 + (time.monotonic() - started) / ASK_AGAIN_SECONDS


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
    limited: Callable[..., FlaskClient], restored: dev.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited(rate_limit_register="2 per minute", web_concurrency=1)
    restored.stop()
    address = f"192.0.2.{secrets.randbelow(200)}"
    assert [register_from(client, address) for _ in range(3)] == [422, 422, 429]
    for seconds, status in ((30, 429), (60, 422)):
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)  # noqa: B023 - at once
        monkeypatch.setattr(counting, "time", clock)
        assert register_from(client, address) == status
