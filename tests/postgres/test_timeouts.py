"""A request waits for Postgres for less than a second in all, whatever Postgres does."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy.exc
from flask import Flask
from sqlalchemy import text

import dev
from tests.stage.people import PASSWORD
from tests.stage.proxy import Proxy
from tests.stage.waiting import served
from tokenservice.extensions import db
from tokenservice.postgres import timeouts

LOGIN = {"correo": "ana@example.com", "password": PASSWORD}


@pytest.fixture(autouse=True)
def schema(app: Flask) -> Flask:
    """The shared Postgres has its tables."""
    return app


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def took(least: float, most: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert least < time.monotonic() - started < most


def test_a_request_does_not_wait_for_a_silent_server(
    mute: int, make_app: Callable[..., Flask]
) -> None:
    """Guard: ``timeouts.wait``."""
    client = make_app(database_url=f"postgresql://ana@127.0.0.1:{mute}/x").test_client()
    with took(0.8, 15):
        response = client.post("/auth/login", json=LOGIN)
    assert response.status_code == 503
    assert response.get_json()["code"] == "database_unavailable"


def test_a_command_does_not_wait_for_a_silent_server(
    mute: int, make_app: Callable[..., Flask]
) -> None:
    """Guard: ``timeouts.CONNECT_SECONDS``."""
    app = make_app(database_url=f"postgresql://ana@127.0.0.1:{mute}/x")
    with (
        took(1.9, 15),
        app.app_context(),
        pytest.raises(sqlalchemy.exc.OperationalError, match="did not answer in time"),
    ):
        db.session.execute(text("SELECT 1"))


def test_a_command_may_take_its_time(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("SET statement_timeout = 0"))
        db.session.execute(text("SELECT pg_sleep(1.2)"))


def test_a_silent_host_leaves_time_for_the_next(
    mute: int, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Guard: the share of ``timeouts.connect``."""
    silent = f"127.0.0.1:{mute}"
    url = postgres.url.replace("@", f"@{silent},")
    app = make_app(database_url=url)
    client = app.test_client()
    with took(0.3, 15):
        assert served(lambda: client.get("/readyz/postgres")).status_code == 200
    with app.app_context():
        db.engine.dispose()


def test_hosts_with_addresses_of_their_own_are_tried_in_turn(
    mute: int, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Red where ``hostaddr`` is not divided among the hosts as their names are."""
    credentials = postgres.url.partition("@")[0]
    hosts = f"one.invalid:{mute},two.invalid:{postgres.port}"
    url = f"{credentials}@{hosts}/token_service?hostaddr=127.0.0.1,127.0.0.1"
    app = make_app(database_url=url)
    client = app.test_client()
    assert served(lambda: client.get("/readyz/postgres")).status_code == 200
    with app.app_context():
        db.engine.dispose()


def test_an_address_has_a_time_limit_of_its_own_for_a_connection(
    mute: int, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq's own is not in force where psycopg2 waits with a callback."""
    monkeypatch.setattr(timeouts, "CONNECT_SECONDS", 20)
    app = make_app(database_url=f"postgresql://ana@127.0.0.1:{mute}/x?connect_timeout=1")
    with took(0.9, 15), app.app_context(), pytest.raises(sqlalchemy.exc.OperationalError):
        db.session.execute(text("SELECT 1"))


def test_an_address_may_ask_for_hosts_in_any_order(
    postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    with Proxy(postgres.port) as proxy:
        hosts = f"127.0.0.1:{proxy.port},127.0.0.1:{postgres.port}"
        url = postgres.url.replace(f"127.0.0.1:{postgres.port}", hosts)
        app = make_app(database_url=f"{url}?load_balance_hosts=random")
        used = set()
        with app.app_context():
            for _ in range(20):
                connection = db.engine.raw_connection()
                used.add(connection.driver_connection.info.port)
                connection.close()
                db.engine.dispose()
    assert used == {proxy.port, postgres.port}


def test_waits_add_up(postgres: dev.Postgres, make_app: Callable[..., Flask]) -> None:
    """Each wait is short enough, and their sum is not."""
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        app = make_app(database_url=url)
        client = app.test_client()
        assert served(lambda: client.get("/readyz/postgres")).status_code == 200
        proxy.slow(0.4)
        with took(0.8, 15):
            assert client.post("/auth/login", json=LOGIN).status_code == 503
        proxy.mend()
        assert served(lambda: client.get("/readyz/postgres")).status_code == 200
        with app.app_context():
            db.engine.dispose()


def test_the_end_of_a_request_does_not_wait_for_ever(
    postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Nor does it fail: the response exists already. Guard: ``postgres.end_session``."""
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        app = make_app(database_url=url)
        with took(0.5, 15), app.test_request_context():
            app.preprocess_request()
            db.session.execute(text("SELECT 1"))
            proxy.hang()
        with app.app_context():
            db.engine.dispose()
