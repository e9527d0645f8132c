"""Fixtures of all tests: real servers, apps, clients and accounts."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg2
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from psycopg2 import sql
from sqlalchemy import make_url

import dev
from config import Config
from tests.stage.paths import ROOT
from tests.stage.patience import wait_longer
from tests.stage.people import Person, enrol
from tests.stage.programs import servers, summary
from tests.stage.service import Service
from tokenservice import create_app
from tokenservice.extensions import db
from tokenservice.postgres import timeouts

logging.getLogger("httpx").setLevel(logging.WARNING)
# An example of a shared machine that stalls is not a slow one.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
#: The apps that keep their connections, each a few of the hundred that Postgres takes.
CONNECTED_APPS = 12
#: The number of slow tests left out.
SLOW_LEFT = pytest.StashKey[int]()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    config = items[0].config
    config.stash[SLOW_LEFT] = sum(item.get_closest_marker("slow") is not None for item in items)
    if hasattr(config, "workeroutput"):  # of pytest-xdist
        config.workeroutput["slow left"] = config.stash[SLOW_LEFT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each worker collects all tests, so any of them has the number of those left out."""
    node.config.stash[SLOW_LEFT] = getattr(node, "workeroutput", {}).get("slow left", 0)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    """Report the tests that were not run, at the very end."""
    yield
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    text = summary([reason.removeprefix("Skipped: ") for reason in skipped])
    if config.option.markexpr == "not slow":
        text += f"\n{config.stash.get(SLOW_LEFT, 0)} slow tests were left to make check."
    with contextlib.suppress(dev.CannotStart):
        text += f"\n{servers()}"
    terminalreporter.write_line(text.strip())


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """The apps of this process wait longer for Postgres than the service does.

    For tests of something else, because shared machines stall. A module that tests the limits
    has a fixture of this name that changes nothing.
    """
    with pytest.MonkeyPatch.context() as patch:
        wait_longer(patch)
        limits = "SET LOCAL statement_timeout = 8000; SET LOCAL lock_timeout = 7000"
        patch.setattr(timeouts, "SERVER_LIMITS", limits)
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Postgres]:
    with dev.Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    with dev.Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def config(postgres: dev.Postgres, redis_server: dev.Redis) -> Config:
    """Real servers, no limits, and hashing as cheap as argon2 allows: tests log in a lot."""
    return Config(
        secret_key=secrets.token_urlsafe(48),
        database_url=postgres.url,
        redis_url=redis_server.url,
        argon2_memory_kib=8,
        redis_timeout_ms=5000,  # Shared machines stall; the short default has its own tests.
        redis_connect_timeout_ms=5000,
        rate_limit_register="off",
        rate_limit_login="off",
        rate_limit_create="off",
        rate_limit_validate="off",
        drain_seconds=0,
    )


@pytest.fixture(scope="session")
def make_app(config: Config) -> Callable[..., Flask]:
    """Build an app with some settings changed; the database of all has the schema."""
    made = deque[Flask]()

    def make(**changes: Any) -> Flask:
        made.append(create_app(dataclasses.replace(config, **changes)))
        if len(made) > CONNECTED_APPS:
            with made.popleft().app_context():
                db.engine.dispose()
        return made[-1]

    with make().app_context():
        flask_migrate.upgrade()
    return make


@pytest.fixture(scope="session")
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def empty_url(postgres: dev.Postgres) -> str:
    """The address of a new database with nothing in it."""
    name = f"migrations_{secrets.token_hex(4)}"
    with contextlib.closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_url(postgres.url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def empty(empty_url: str, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """An app on a database of its own, with nothing in it."""
    app = make_app(database_url=empty_url)
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def person(client: FlaskClient) -> Person:
    return enrol(client.post)


@pytest.fixture
def other(client: FlaskClient) -> Person:
    return enrol(client.post)


@pytest.fixture(scope="session")
def serve(
    app: Flask, config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Service]:
    """Describe a gunicorn with some settings changed; ``with`` runs it."""

    def make(root: Path = ROOT, **changes: Any) -> Service:
        settings = {
            name: str(value)
            for name, value in dataclasses.asdict(config).items()
            if value is not None and value != () and name != "argon2_memory_kib"
        }
        settings |= {name: str(value) for name, value in changes.items()}
        return Service(settings, tmp_path_factory.mktemp("gunicorn") / "log", root)

    return make


@pytest.fixture(scope="session")
def service(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=3) as running:
        yield running


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    """A Redis that the tests of one module may empty, fill and stop."""
    with dev.Redis(tmp_path_factory.mktemp("own_redis")) as server:
        yield server


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Postgres]:
    """A Postgres that the tests of one module may stop and reconfigure."""
    with dev.Postgres(tmp_path_factory.mktemp("own_postgres"), durable=False) as server:
        yield server


@pytest.fixture
def counters(own_redis: dev.Redis) -> Iterator[redis.Redis]:
    """The Redis of the limits, without any count."""
    with redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def limited(
    make_app: Callable[..., Flask], app: Flask, own_redis: dev.Redis
) -> Callable[..., FlaskClient]:
    """Build a client of an app with some limits on, all others off."""

    def make(**changes: Any) -> FlaskClient:
        return make_app(redis_url=own_redis.url, **changes).test_client()

    return make
