"""Callers: the account of an access token, and its cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask_migrate
import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text

import dev
from tests.stage.callers import always_fresh
from tests.stage.faults import locked
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.problems import assert_out
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.stage.waiting import served, until
from tokenservice.auth import callers, changes
from tokenservice.auth.callers import Callers
from tokenservice.extensions import db

DEACTIVATE = text("UPDATE users SET is_active = false WHERE id = :id")


def test_a_deactivated_account_is_refused_within_two_seconds(
    app: Flask, client: FlaskClient, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no look tells of it. Guard: ``callers.FRESH_SECONDS``."""
    monkeypatch.setattr(changes, "look", lambda _: None)
    assert client.post("/token/create", headers=person.headers).status_code == 201
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(DEACTIVATE, {"id": person.id})
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        client.post("/token/create", headers=person.headers)
        time.sleep(0.05)
    assert_out(client.post("/token/create", headers=person.headers), "access_token_invalid")
    assert_out(client.get("/auth/me", headers=person.headers), "access_token_invalid")


def test_a_deactivated_account_is_refused_within_two_seconds_on_every_worker(
    app: Flask, service: Service
) -> None:
    """No worker keeps a cached caller for longer. Guard: ``Callers._learn``."""

    # A new connection for each call, so that any worker may serve it.
    headers = {"Connection": "close"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as http:
        someone = enrol(http.post)
        for _ in range(30):
            created = served(lambda: http.post("/token/create", headers=someone.headers))
            assert created.status_code == 201
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(DEACTIVATE, {"id": someone.id})
        time.sleep(2)
        for _ in range(30):
            response = http.post("/token/create", headers=someone.headers)
            assert_out(response, "access_token_invalid")


@pytest.fixture
def fresh() -> Iterator[None]:
    with always_fresh():
        yield


def test_a_warm_token_call_does_not_query_postgres(
    app: Flask, client: FlaskClient, person: Person, fresh: None
) -> None:
    """It does not even check out a connection. Guard: the cache of ``Callers.find``."""
    seen: list[str] = []
    here = threading.get_ident()  # Another thread looks which accounts changed.

    def query(*arguments: Any) -> None:
        if threading.get_ident() == here:
            seen.append(arguments[2])

    def checkout(*_: Any) -> None:
        if threading.get_ident() == here:
            seen.append("checkout")

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", query)
    event.listen(engine, "checkout", checkout)
    try:
        token = client.post("/token/create", headers=person.headers).get_json()["token"]
        assert seen  # The first call queries, so the listeners work.
        seen.clear()
        assert client.post("/token/create", headers=person.headers).status_code == 201
        validated = client.post("/token/validate", headers=person.headers, json={"token": token})
        assert validated.status_code == 200
        assert seen == []
    finally:
        event.remove(engine, "before_cursor_execute", query)
        event.remove(engine, "checkout", checkout)


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[dev.Postgres]:
    with dev.Postgres(tmp_path, durable=False) as server:
        yield server


def test_me_returns_503_while_the_accounts_are_locked(
    postgres: dev.Postgres, client: FlaskClient
) -> None:
    """The caller is cached, so the view runs, and the breaker refuses its query."""
    person = enrol(client.post)
    assert client.get("/auth/me", headers=person.headers).status_code == 200
    time.sleep(1.6)  # The cached caller is no longer fresh.
    with locked(SimpleNamespace(postgres=postgres)):
        response = client.get("/auth/me", headers=person.headers)
    assert (response.status_code, response.get_json()["code"]) == (503, "database_unavailable")
    until(lambda: client.get("/auth/me", headers=person.headers).status_code == 200, seconds=2)


@pytest.mark.slow
def test_recent_callers_are_served_during_an_outage_of_postgres(
    own_postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Others, and logins, get a 503 until Postgres is back.

    Guards: the ``except`` of ``Callers.find`` and its ``known``, and ``problems.on_database``.
    """
    app = make_app(database_url=own_postgres.url)
    app.extensions["Callers"] = known = Callers(stale_seconds=60)
    with app.app_context():
        flask_migrate.upgrade()
    client = app.test_client()
    seen, unseen = enrol(client.post), enrol(client.post)
    credentials = {"correo": seen.correo, "password": PASSWORD}
    assert client.post("/token/create", headers=seen.headers).status_code == 201

    own_postgres.stop()
    for pause in (0, 1.6):  # At once, and with a caller that is no longer fresh.
        time.sleep(pause)
        created = client.post("/token/create", headers=seen.headers)
        assert created.status_code == 201
        token = created.get_json()["token"]
        validated = client.post("/token/validate", headers=seen.headers, json={"token": token})
        assert validated.status_code == 200
    refused = [
        client.post("/token/create", headers=unseen.headers),
        client.post("/token/validate", headers=unseen.headers, json={"token": token}),
        client.post("/auth/login", json=credentials),
        client.get("/auth/me", headers=seen.headers),
    ]
    known._stale_seconds = 1.0  # The cached caller is too old by now.
    refused.append(client.post("/token/create", headers=seen.headers))
    for response in refused:
        assert response.status_code == 503
        assert response.get_json()["code"] == "database_unavailable"
        assert int(response.headers["Retry-After"]) >= 1
        assert "WWW-Authenticate" not in response.headers

    own_postgres.start()
    deadline = time.monotonic() + 10
    while client.post("/token/create", headers=unseen.headers).status_code != 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.post("/auth/login", json=credentials).status_code == 200
    assert client.get("/auth/me", headers=seen.headers).status_code == 200

    # The stale cache does not outlive the outage.
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(DEACTIVATE, {"id": seen.id})
    time.sleep(2)
    assert_out(client.post("/token/create", headers=seen.headers), "access_token_invalid")
    with app.app_context():
        db.engine.dispose()


@pytest.mark.slow
@pytest.mark.timed
def test_no_known_caller_waits_while_postgres_hangs(
    app: Flask, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """The look at the changes finds the outage, and keeps finding it.

    Guards: ``_is_away`` in ``Callers.find``, and ``callers.FRESH_DURING_A_LOOK_SECONDS``.
    """
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        away = make_app(database_url=url)
        people = [enrol(away.test_client().post) for _ in range(6)]

        def seconds(someone: Person) -> float:
            started = time.monotonic()
            created = away.test_client().post("/token/create", headers=someone.headers)
            assert created.status_code == 201
            return time.monotonic() - started

        def slowest(during: float) -> float:
            end, found = time.monotonic() + during, 0.0
            with ThreadPoolExecutor() as threads:
                while time.monotonic() < end:
                    found = max(found, *threads.map(seconds, people))
                    time.sleep(0.05)
            return found

        for _ in range(5):  # Other work of the machine may spoil a try.
            slowest(2.5)  # By then all of them are on watch.
            proxy.hang()
            found = slowest(6)
            proxy.mend()
            if found < 0.5:
                break
        assert found < 0.5
        with away.app_context():
            db.engine.dispose()


@pytest.mark.slow
def test_a_known_caller_leaves_the_trial_to_others(
    app: Flask, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Also one that comes after a pause, when nothing has looked at Postgres for a while.

    Guard: ``callers.PATIENT_SECONDS``.
    """
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        client = make_app(database_url=url).test_client()
        someone = enrol(client.post)
        credentials = {"correo": someone.correo, "password": PASSWORD}
        for _ in range(3):  # Other work of the machine may spoil a try.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(callers, "IDLE_SECONDS", 0.5)
                assert client.post("/token/create", headers=someone.headers).status_code == 201
                time.sleep(2)
            proxy.hang()
            assert client.post("/auth/login", json=credentials).status_code == 503
            time.sleep(0.5)
            started = time.monotonic()
            assert client.post("/token/create", headers=someone.headers).status_code == 201
            took = time.monotonic() - started
            proxy.mend()
            if took < 0.4:
                break
        assert took < 0.4
        with client.application.app_context():
            db.engine.dispose()
