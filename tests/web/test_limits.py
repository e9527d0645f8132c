"""Rate limits: their counts, their keys and the headers of responses."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from config import Config
from tests.stage.limits import (
    DEFAULTS,
    WRONG,
    assert_limited,
    fields,
    log_in,
    register_from,
    statuses,
)
from tests.stage.people import PASSWORD, Person

# Every test starts with empty counters.
pytestmark = pytest.mark.usefixtures("counters")


# Headers of responses.


def test_the_limits_are_on_by_default() -> None:
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
def test_a_limited_response_carries_its_policy_and_state(
    call: tuple[str, dict[str, str]],
    policy: str,
    remaining: int,
    limited: Callable[..., FlaskClient],
    ana: Person,
) -> None:
    """Guard: ``limits.header_fields``."""
    response = limited(**DEFAULTS).post(call[0], json=call[1], headers=ana.headers)
    assert response.headers["RateLimit-Policy"] == policy
    *_, reported, left = fields(response)
    assert reported == remaining
    assert 30 <= left <= 60
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize(
    ("setting", "path", "body"),
    [
        ("register", "/auth/register", {}),
        ("create", "/token/create", {"expires_in": "x"}),
        ("validate", "/token/validate", {}),
    ],
)
def test_the_call_beyond_the_limit_is_a_429(
    setting: str,
    path: str,
    body: dict[str, str],
    limited: Callable[..., FlaskClient],
    ana: Person,
) -> None:
    client = limited(**{f"rate_limit_{setting}": "3 per minute"})
    responses = [client.post(path, json=body, headers=ana.headers) for _ in range(5)]
    assert statuses(responses) == [422, 422, 422, 429, 429]
    assert [fields(response)[3] for response in responses] == [2, 1, 0, 0, 0]
    assert_limited(responses[3], setting)
    assert_limited(responses[4], setting)


def test_a_window_ends_and_is_not_prolonged_by_refused_calls(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    client = limited(rate_limit_create="2 per second")
    assert client.post("/token/create", headers=ana.headers).status_code == 201
    client.post("/token/create", headers=ana.headers)
    deadline = time.monotonic() + 10
    while client.post("/token/create", headers=ana.headers).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_off_disables_every_limit(limited: Callable[..., FlaskClient], ana: Person) -> None:
    """No counting and no header, for all limits of a login too."""
    client = limited(**dict.fromkeys(DEFAULTS, "off"))
    responses = [log_in(client, ana.correo, WRONG) for _ in range(70)]
    assert set(statuses(responses)) == {401}
    responses += [client.post("/token/create", headers=ana.headers) for _ in range(5)]
    responses += [client.post("/auth/register", json={}) for _ in range(10)]
    for response in responses:
        assert not [name for name, _ in response.headers if name.lower().startswith("ratelimit")]


def test_unlimited_responses_carry_no_limit_headers(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    client = limited(**DEFAULTS)
    for response in (client.get("/auth/me", headers=ana.headers), client.get("/healthz")):
        assert response.status_code == 200
        assert "RateLimit" not in response.headers


# Keys, and the calls that count.


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
    """Guard: a call is counted before its body is read."""
    client = limited(
        rate_limit_register="2 per minute",
        rate_limit_login="2 per minute",
        rate_limit_validate="2 per minute",
    )
    responses = [client.post(path, headers=ana.headers, **body) for _ in range(3)]
    assert {response.status_code for response in responses[:2]} <= {400, 413, 415, 422}
    assert_limited(responses[2], path.rpartition("/")[2])


@pytest.mark.parametrize("path", ["/token/create", "/token/validate"])
def test_token_calls_are_counted_by_user_not_by_address(
    path: str, limited: Callable[..., FlaskClient], ana: Person, berta: Person
) -> None:
    """Guard: the ``caller.id`` of ``plans``."""
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


def test_an_unauthenticated_token_call_is_not_counted(
    limited: Callable[..., FlaskClient],
) -> None:
    client = limited(rate_limit_create="1 per minute")
    responses = [client.post("/token/create") for _ in range(3)]
    assert statuses(responses) == [401, 401, 401]


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        # A dual-stack socket names an IPv4 client so.
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_ipv6_client_is_its_whole_network(
    one: str, two: str, together: bool, limited: Callable[..., FlaskClient]
) -> None:
    """It may use each of a /64's addresses. Guard: ``limits.client_address``."""
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
    responses = Counter(register_from(client, "192.0.2.1", **{name: value}) for value in made_up)
    assert responses == {422: 5, 429: 195}


def test_one_trusted_proxy_names_the_client(limited: Callable[..., FlaskClient]) -> None:
    """Only the last address is the proxy's; those before it are the client's own."""
    client = limited(rate_limit_register="5 per minute", trusted_proxies=1)
    for n in range(20):
        assert register_from(client, "10.0.0.1", X_Forwarded_For=f"198.51.100.{n}") == 422
    # To a parser of RFC 9110 an open quote would hide the proxy's address.
    made_up = ['"' * (n % 2) + f"198.51.100.{n}, 203.0.113.9" for n in range(50)]
    responses = Counter(
        register_from(client, "10.0.0.1", X_Forwarded_For=value) for value in made_up
    )
    assert responses == {422: 5, 429: 45}


@pytest.mark.parametrize(
    "value",
    ["unknown", "_hidden", "203.0.113.9:4711", "[2001:db8::1]:4711", "\u00e9", "a, b", "-1"],
)
def test_a_proxy_that_names_no_address_is_no_error(
    value: str, limited: Callable[..., FlaskClient]
) -> None:
    """Such names are counted too: an unnamed client is still limited."""
    client = limited(rate_limit_register="2 per minute", trusted_proxies=1)
    responses = [register_from(client, "10.0.0.1", X_Forwarded_For=value) for _ in range(3)]
    assert responses == [422, 422, 429]


def commands(counters: redis.Redis, call: Callable[[], Any]) -> Counter[str]:
    """Count the commands of clients during ``call``; those inside a script are no round trips."""
    with counters.monitor() as monitor:
        counters.echo("begin")
        call()
        counters.echo("end")
        seen: Counter[str] = Counter()
        for entry in monitor.listen():
            name = str(entry["command"]).split()[0].upper()
            if entry["command"] == "ECHO end":
                return seen
            if name == "ECHO":
                seen.clear()  # Earlier commands connect this client.
                continue
            if entry["client_type"] != "lua":
                seen[name] += 1
    return seen


def test_a_limit_costs_one_round_trip_and_its_headers_none(
    limited: Callable[..., FlaskClient], ana: Person, counters: redis.Redis
) -> None:
    """Guard: ``limits.header_fields`` queries nothing; the scripts have returned it all."""
    client = limited(**DEFAULTS)

    def create() -> None:
        response = client.post("/token/create", headers=ana.headers)
        assert response.status_code == 201
        assert "RateLimit" in response.headers

    def refused() -> None:
        assert client.post("/token/validate", json={}, headers=ana.headers).status_code == 422

    def fail() -> None:
        assert log_in(client, ana.correo, WRONG).status_code == 401

    def succeed() -> None:
        assert log_in(client, ana.correo, PASSWORD).status_code == 200

    create()  # Connects, and loads the scripts.
    fail()
    succeed()
    assert commands(counters, create) == {"EVALSHA": 2}  # The limit, and the engine.
    assert commands(counters, refused) == {"EVALSHA": 1}
    # By address; by account; and the third settles the attempt.
    assert commands(counters, fail) == {"EVALSHA": 3}
    assert commands(counters, succeed) == {"EVALSHA": 3}
