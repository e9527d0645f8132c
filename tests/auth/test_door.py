"""The direct door: what it lets in, and how near Redis must be."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

import dev
from config import Config
from tests.stage.callers import always_fresh
from tests.stage.doors import always_near
from tests.stage.people import Person, enrol
from tests.stage.proxy import Proxy
from tests.stage.waiting import until
from tokenservice.auth.door import Door
from tokenservice.auth.jwts import Principal
from tokenservice.extensions import db
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.nearness import Nearness
from tokenservice.server.request import Request
from tokenservice.web.app import report_unreadable
from tokenservice.web.bodies import MAX_BODY_BYTES
from tokenservice.web.responses import PlainResponse

CREATE = b"/token/create"


@pytest.fixture
def near() -> Iterator[None]:
    """And no caller has to be read again, however long a call takes."""
    with always_near(), always_fresh():
        yield


@pytest.fixture(scope="module")
def site(app: Flask, make_app: Callable[..., Flask]) -> Flask:
    return make_app(trusted_proxies=1)


@pytest.fixture
def known(site: Flask) -> Person:
    """A caller that the app has seen just now."""
    person = enrol(site.test_client().post)
    assert site.test_client().get("/auth/me", headers=person.headers).status_code == 200
    return person


def door_of(app: Flask) -> Door:
    found: Door = app.extensions["Door"]
    return found


def request(
    person: Person,
    *more: tuple[bytes, bytes],
    method: str = "POST",
    target: bytes = CREATE,
    body: bytes = b"{}",
) -> Request:
    headers = [
        (b"host", b"localhost"),
        (b"authorization", person.headers["Authorization"].encode()),
        (b"content-type", b"application/json"),
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        *more,
    ]
    made = Request(method, target, "1.1", headers, ("127.0.0.1", 1))
    made.body = body
    return made


def is_shut(app: Flask, asked: Request) -> bool:
    """Whether the call does not come in, or is not quick."""
    door = door_of(app)
    entered = door.enter(asked)
    return entered is None or not door.is_quick(entered)


def answered(app: Flask, asked: Request) -> PlainResponse | None:
    """The response of the door in a thread that may not wait."""
    entered = door_of(app).enter(asked)
    assert entered
    return door_of(app).answer(entered, waits=False)


def test_a_known_caller_comes_in(site: Flask, near: None, known: Person) -> None:
    assert not is_shut(site, request(known))
    response = answered(site, request(known))
    assert response
    assert response.status == 201


def test_too_few_entries_of_the_proxies_are_reported(
    app: Flask, make_app: Callable[..., Flask], near: None
) -> None:
    """As by ``Proxies``. Guard: ``forwarded`` in ``Door``."""
    site = make_app(trusted_proxies=7)
    person = enrol(site.test_client().post)
    site.test_client().get("/auth/me", headers=person.headers)
    before = report_unreadable.cache_info().currsize
    assert answered(site, request(person))
    assert report_unreadable.cache_info().currsize == before + 1


CHANGES: dict[str, dict[str, Any]] = {
    "a query": {"target": CREATE + b"?a=b"},
    "an empty query": {"target": CREATE + b"?"},
    "another spelling": {"target": b"/token/%63reate"},
    "two slashes": {"target": b"//token/create"},
    "a slash at the end": {"target": CREATE + b"/"},
    "a whole address": {"target": b"http://localhost/token/create"},
    "an unknown path": {"target": b"/token/creation"},
    "a page": {"target": b"/docs", "method": "GET"},
    "an account": {"target": b"/auth/me", "method": "GET"},
    "another method": {"method": "PUT"},
    "a preflight": {"method": "OPTIONS"},
    "a HEAD": {"method": "HEAD", "target": b"/token"},
    "an id too long": {"method": "GET", "target": b"/token/" + b"0" * 19},
    "an id and a line end": {"method": "GET", "target": b"/token/" + b"0" * 18 + b"\n"},
    "a large body": {"body": b" " * (MAX_BODY_BYTES + 1)},
    "an address": {"body": b'{"audience": ["a@example.com"]}'},
    "an escaped address": {"body": b'{"audience": ["a\\u0040example.com"]}'},
    "an escaped name": {"body": b'{"\\u0061udience": ["a@example.com"]}'},
    "the address of an issuer": {
        "target": b"/token/consume",
        "body": b'{"token": "x", "issued_by": ["a@example.com"]}',
    },
    "an escaped name of issuers": {
        "target": b"/token/introspect",
        "body": b'{"token": "x", "issued\\u005Fby": ["a@example.com"]}',
    },
}
#: Bodies with an "@" or an escape that is no address of an account.
HARMLESS = {
    b"/token/create": b'{"subject": "a@example.com", "data": {"\\u00f1": "\\n"}}',
    b"/token/consume": b'{"token": "x", "subject": "a@example.com"}',
}
FIELDS: dict[str, tuple[bytes, bytes]] = {
    "an origin": (b"origin", b"https://a.example"),
    "a prefix": (b"x-forwarded-prefix", b"/tokens"),
    "two credentials": (b"authorization", b"Bearer x"),
    "two media types": (b"content-type", b"application/json"),
    "an underscore": (b"x_request_id", b"a"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_sure_goes_through_flask(
    site: Flask, near: None, known: Person, name: str
) -> None:
    assert is_shut(site, request(known, **CHANGES[name]))


@pytest.mark.parametrize("target", HARMLESS)
def test_an_address_elsewhere_comes_in(
    site: Flask, near: None, known: Person, target: bytes
) -> None:
    """A subject may be one, and only Flask is slow."""
    assert not is_shut(site, request(known, target=target, body=HARMLESS[target]))


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_flask_knows_more_of_goes_through_flask(
    site: Flask, near: None, known: Person, name: str
) -> None:
    assert is_shut(site, request(known, FIELDS[name]))


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", "Bearer x", "Basic {}", "bearer  {}", "{}", "Bearer {}x"],
)
def test_only_verified_credentials_come_in(
    site: Flask, near: None, known: Person, value: str | None
) -> None:
    """Default deny: the door has no way to verify any itself."""
    credentials = known.headers["Authorization"].partition(" ")[2]
    given = dataclasses.replace(known, headers={"Authorization": (value or "").format(credentials)})
    asked = request(given)
    if value is None:
        asked.headers = [field for field in asked.headers if field[0] != b"authorization"]
    assert is_shut(site, asked)


def test_a_caller_that_must_be_read_goes_through_flask(site: Flask, near: None) -> None:
    """Guard: ``Callers.recall``: first nobody has seen it, and later too long ago."""
    person = enrol(site.test_client().post)
    assert is_shut(site, request(person))
    assert site.test_client().get("/auth/me", headers=person.headers).status_code == 200
    assert not is_shut(site, request(person))


def test_a_deactivated_account_is_out_within_two_seconds(site: Flask, known: Person) -> None:
    with site.app_context(), db.engine.begin() as connection:
        connection.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": known.id}
        )
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        site.test_client().post("/token/create", headers=known.headers)
        time.sleep(0.05)
    with always_near():
        assert is_shut(site, request(known))


def test_a_jwt_is_out_when_it_has_expired(
    app: Flask, make_app: Callable[..., Flask], near: None
) -> None:
    """Guard: ``VerifiedTokens.principal``."""
    site = make_app()
    person = enrol(site.test_client().post)
    site.test_client().get("/auth/me", headers=person.headers)
    assert not is_shut(site, request(person))
    verified = site.extensions["VerifiedTokens"]
    credentials = person.headers["Authorization"].partition(" ")[2]
    verified.remember(credentials, Principal(person.id), time.time() - 1)
    assert is_shut(site, request(person))


# How near Redis is.


def away(
    make_app: Callable[..., Flask], config: Config, proxy: Proxy, port: int, **changes: Any
) -> Flask:
    """An app that reaches Redis over the proxy."""
    url = str(config.redis_url).replace(f":{port}/", f":{proxy.port}/")
    limits = dict.fromkeys(["rate_limit_create", "rate_limit_validate"], "100000 per hour")
    return make_app(redis_url=url, **{**limits, **changes})


def test_nothing_is_quick_until_redis_has_answered_quickly(
    app: Flask, make_app: Callable[..., Flask], redis_server: dev.Redis
) -> None:
    """Guard: ``Nearness``, in the connection of the engine and in that of the limits."""
    site = make_app(rate_limit_create="1000 per hour")
    client = site.test_client()
    person = enrol(client.post)
    client.get("/auth/me", headers=person.headers)
    assert is_shut(site, request(person))

    def comes_in() -> bool:
        client.post("/token/create", headers=person.headers)
        return not is_shut(site, request(person))

    until(comes_in)


@pytest.mark.parametrize("of", ["engine", "limits"])
def test_both_connections_to_redis_must_be_near(
    app: Flask, make_app: Callable[..., Flask], near: None, of: str
) -> None:
    """A call counts over the one, and runs its script over the other."""
    # Each call is counted in Redis, and not by the handful.
    site = make_app(rate_limit_create="99 per hour")
    person = enrol(site.test_client().post)

    def comes_in() -> bool:
        site.test_client().post("/token/create", headers=person.headers)
        return not is_shut(site, request(person))

    connections = {
        "engine": site.extensions["TokenStore"]._shards._connection,
        "limits": site.extensions["Counters"]._count.connection,
    }
    with pytest.MonkeyPatch.context() as usual:
        usual.setattr("tokenservice.onetime.nearness.NEAR_SECONDS", 0.09)
        until(comes_in)
        connections[of].nearness = Nearness()  # As after a start.
        assert is_shut(site, request(person))


@pytest.mark.parametrize(("seconds", "most"), [(0.001, 0.2), (0.005, 0), (0.05, 0)])
def test_a_redis_that_is_far_is_not_quick(
    app: Flask,
    make_app: Callable[..., Flask],
    config: Config,
    redis_server: dev.Redis,
    seconds: float,
    most: float,
) -> None:
    """But for a trial of 20 ms in half a second where it may only look far."""
    with Proxy(redis_server.port) as proxy:
        proxy.slow(seconds)
        site = away(make_app, config, proxy, redis_server.port)
        client = site.test_client()
        person = enrol(client.post)
        calls = opened = 0
        started = time.monotonic()
        while calls < 20 or time.monotonic() - started < 1:
            assert client.post("/token/create", headers=person.headers).status_code == 201
            calls += 1
            opened += not is_shut(site, request(person))
        assert opened <= most * calls


def test_a_redis_that_hangs_costs_one_quick_call_its_time_limit(
    app: Flask, make_app: Callable[..., Flask], config: Config, redis_server: dev.Redis
) -> None:
    """The thread waits once, for one answer; from then on nothing is quick, until Redis is again.

    Guards: ``Nearness.lose``, and the look at it between the limit and the engine.
    """
    with Proxy(redis_server.port) as proxy:
        # Each call is counted in Redis, and not by the handful.
        changes = {"redis_timeout_ms": 300, "rate_limit_create": "99 per hour"}
        site = away(make_app, config, proxy, redis_server.port, **changes)
        door, client = door_of(site), site.test_client()
        person = enrol(client.post)
        trips, ask = [], Connection.ask

        def counted(connection: Connection, *command: Any) -> Any:
            trips.append(command)
            return ask(connection, *command)

        with pytest.MonkeyPatch.context() as lenient:
            lenient.setattr("tokenservice.onetime.nearness.NEAR_SECONDS", 0.09)

            def comes_in() -> bool:
                client.post("/token/create", headers=person.headers)
                return not is_shut(site, request(person))

            until(comes_in)
            proxy.hang()
            entered = door.enter(request(person))
            assert entered
            lenient.setattr(Connection, "ask", counted)
            started = time.monotonic()
            assert door.answer(entered, waits=False) is None
            assert time.monotonic() - started > 0.29
            assert len(trips) == 1
        times = []
        for _ in range(50):
            started = time.monotonic()
            assert is_shut(site, request(person))
            times.append(time.monotonic() - started)
        assert sorted(times)[48] < 0.01
        proxy.mend()
        # A thread that may wait makes the same call, which has been counted.
        response = door.answer(entered, waits=True)
        assert response
        assert response.status == 201


def test_a_postgres_that_hangs_delays_no_quick_call(
    app: Flask, make_app: Callable[..., Flask], postgres: dev.Postgres
) -> None:
    with Proxy(postgres.port) as proxy, always_near():
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        site = make_app(database_url=url, max_active=100_000)
        door, client = door_of(site), site.test_client()
        person = enrol(client.post)
        client.post("/token/create", headers=person.headers)
        proxy.hang()
        with ThreadPoolExecutor(2) as threads:
            waiting = threads.submit(client.get, "/auth/me", headers=person.headers)
            times, deadline = [], time.monotonic() + 0.5
            while time.monotonic() < deadline:
                started = time.monotonic()
                entered = door.enter(request(person))
                if entered is None:
                    break  # No longer fresh.
                response = door.answer(entered, waits=False)
                assert response
                assert response.status == 201
                times.append(time.monotonic() - started)
            assert waiting.result().status_code == 503
        assert len(times) > 2
        assert sorted(times)[int(len(times) * 0.9)] < 0.4
        proxy.mend()
        with site.app_context():
            db.engine.dispose()
