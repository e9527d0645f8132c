"""A connection to Postgres that a middlebox forgot while it was idle costs no response."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

import dev
from tests.stage.people import PASSWORD, enrol
from tests.stage.proxy import Proxy
from tests.stage.sockets import keep_alive
from tokenservice.extensions import db
from tokenservice.postgres import timeouts


@pytest.fixture
def proxy(postgres: dev.Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port) as running:
        yield running


@pytest.fixture
def behind(
    app: Flask, proxy: Proxy, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> Iterator[Flask]:
    made = make_app(database_url=postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/"))
    yield made
    with made.app_context():
        db.engine.dispose()


@pytest.fixture
def client(behind: Flask) -> FlaskClient:
    return behind.test_client()


def test_a_forgotten_connection_costs_no_503(
    client: FlaskClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the time limit of the ping in ``timeouts.taken``."""
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 9)
    login = {"correo": enrol(client.post).correo, "password": PASSWORD}
    proxy.forget()
    assert client.post("/auth/login", json=login).status_code == 200


def test_one_ping_finds_that_all_connections_are_forgotten(
    behind: Flask, client: FlaskClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each of them would cost a wait. Guard: ``InvalidatePoolError``."""
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 20)
    login = {"correo": enrol(client.post).correo, "password": PASSWORD}
    with behind.app_context():
        for connection in [db.engine.connect() for _ in range(4)]:
            connection.close()
    proxy.forget()
    assert client.post("/auth/login", json=login).status_code == 200
    monkeypatch.setattr(timeouts, "PING_SECONDS", 9)
    started = time.monotonic()
    for _ in range(3):
        assert client.post("/auth/login", json=login).status_code == 200
    assert time.monotonic() - started < timeouts.PING_SECONDS


def test_a_connection_that_was_idle_for_long_is_renewed_without_a_ping(
    behind: Flask, client: FlaskClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: ``timeouts.RENEW_SECONDS``."""

    def session() -> object:
        with behind.app_context(), db.engine.connect() as connection:
            return connection.scalar(text("SELECT pg_backend_pid()"))

    first = session()
    assert session() == first
    monkeypatch.setattr(timeouts, "RENEW_SECONDS", 0.05, raising=False)
    monkeypatch.setattr(timeouts, "PING_SECONDS", 9)
    time.sleep(0.1)
    proxy.forget()
    started = time.monotonic()
    assert session() != first
    assert time.monotonic() - started < timeouts.PING_SECONDS


def test_idle_connections_are_kept_alive(behind: Flask, proxy: Proxy) -> None:
    """Guard: ``timeouts.KEEP_ALIVE``."""
    with behind.app_context():
        db.session.execute(text("SELECT 1"))
        assert keep_alive(proxy.port) == [15]


def test_the_keep_alive_of_an_address_is_honoured(
    app: Flask, proxy: Proxy, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
    asks = make_app(database_url=f"{url}?keepalives_idle=77")
    with asks.app_context():
        db.session.execute(text("SELECT 1"))
        assert keep_alive(proxy.port) == [77]
        db.session.remove()
        db.engine.dispose()
