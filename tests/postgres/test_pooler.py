"""Through a PgBouncer in transaction mode, which gives each transaction any session."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import flask_migrate
import psycopg2
import pytest
import sqlalchemy.exc
from flask import Flask
from sqlalchemy import text

import dev
from tests.stage.people import PASSWORD, enrol
from tests.stage.pooler import Pooler
from tests.stage.programs import needs_program
from tests.stage.queries import query
from tests.stage.readiness import readiness
from tokenservice.auth.changes import look
from tokenservice.extensions import db

pytestmark = needs_program("pgbouncer")
SHOW = text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")


@pytest.fixture(scope="module")
def pooler(
    own_postgres: dev.Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pooler]:
    with Pooler(tmp_path_factory.mktemp("pooler"), own_postgres) as running:
        yield running


@pytest.fixture(scope="module")
def pooled(pooler: Pooler, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """An app behind the pooler, with the tables that it made itself."""
    app = make_app(database_url=pooler.url)
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


def test_migrations_readiness_accounts_and_tokens_work(pooled: Flask) -> None:
    """Red with a start-up parameter ``options``, which poolers refuse."""
    client = pooled.test_client()
    assert readiness(client).get_json()["checks"] == dict.fromkeys(
        ("postgres", "schema", "redis"), "ok"
    )
    person = enrol(client.post)
    token = client.post("/token/create", headers=person.headers).get_json()["token"]
    used = client.post("/token/validate", json={"token": token}, headers=person.headers)
    assert used.status_code == 200


def test_each_transaction_has_its_limits_and_leaves_none_behind(
    pooled: Flask, pooler: Pooler
) -> None:
    """Another client of the pooler gets the same session. Guard: ``timeouts.begin_transaction``."""
    with pooled.app_context():
        for _ in range(2):
            assert tuple(db.session.execute(SHOW).one()) == ("800ms", "700ms")
            db.session.commit()
    assert query(pooler.url, str(SHOW)) == [("0", "0")]


def test_a_migration_leaves_no_limits_behind(pooled: Flask, pooler: Pooler) -> None:
    """Red with ``SET`` in migrations/env.py: the session of the pooler would keep it."""
    with pooled.app_context():
        flask_migrate.upgrade()
    assert query(pooler.url, "SHOW lock_timeout") == [("0",)]


def test_changed_accounts_are_seen(pooled: Flask, pooler: Pooler) -> None:
    """Each look may have another session."""
    person = enrol(pooled.test_client().post)
    with pooled.app_context():
        before = look(None)
        query(pooler.url, f"UPDATE users SET is_active = false WHERE id = '{person.id}'")  # noqa: S608
        after = look(before)
    assert before
    assert after
    assert after.follows(before)
    assert after.changed == [person.id]


def test_a_long_query_is_ended_by_the_server(pooled: Flask) -> None:
    with pooled.app_context(), pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        db.session.execute(text("SELECT pg_sleep(5)"))
    assert isinstance(caught.value.orig, psycopg2.errors.QueryCanceled)
    assert not caught.value.connection_invalidated


def test_a_request_does_not_wait_for_a_session_of_the_pooler(pooled: Flask, pooler: Pooler) -> None:
    """Somebody else holds the only one: the pooler keeps the client waiting for two minutes."""
    client = pooled.test_client()
    account = {"correo": enrol(client.post).correo, "password": PASSWORD}
    with contextlib.closing(psycopg2.connect(pooler.url)) as hog, hog.cursor() as cursor:
        cursor.execute("SELECT 1")
        started = time.monotonic()
        response = client.post("/auth/login", json=account)
        assert time.monotonic() - started < 3
        assert (response.status_code, response.get_json()["code"]) == (503, "database_unavailable")
        hog.rollback()
    time.sleep(0.3)
    assert client.post("/auth/login", json=account).status_code == 200


def test_a_pooler_that_lost_its_postgres_is_unavailable_and_recovers(
    pooled: Flask, own_postgres: dev.Postgres
) -> None:
    client = pooled.test_client()
    account = {"correo": enrol(client.post).correo, "password": PASSWORD}
    own_postgres.kill()
    try:
        assert client.post("/auth/login", json=account).status_code == 503
        assert readiness(client).get_json()["checks"]["postgres"] == "unavailable"
    finally:
        own_postgres.start()
    deadline = time.monotonic() + 30
    while client.post("/auth/login", json=account).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_options_that_the_pooler_refuses_are_no_secret_failure(
    pooler: Pooler, make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    """They are the operator's own, so the service is not ready instead of dropping them."""
    app = make_app(database_url=f"{pooler.url}?options=-c%20search_path%3Dtenant")
    assert readiness(app.test_client()).get_json()["checks"]["postgres"] == "unavailable"
