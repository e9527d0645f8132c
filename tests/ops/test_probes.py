"""Liveness, readiness, and access to the metrics."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import httpx
import psycopg2
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import dev
from tests.stage.people import PASSWORD, enrol, new_correo
from tests.stage.programs import needs
from tests.stage.readiness import readiness
from tests.stage.revisions import numbered
from tests.stage.scrapes import value
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.extensions import db

PARTS = {"postgres": {"postgres": "ok", "schema": "ok"}, "redis": {"redis": "ok"}}
GOOD = PARTS["postgres"] | PARTS["redis"]


@pytest.fixture(scope="module")
def probed(
    own_postgres: dev.Postgres, own_redis: dev.Redis, make_app: Callable[..., Flask]
) -> Iterator[Flask]:
    """An app on servers that these tests may stop and reconfigure."""
    app = make_app(database_url=own_postgres.url, redis_url=own_redis.url)
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def probe(probed: Flask) -> FlaskClient:
    return probed.test_client()


@pytest.fixture
def admin(own_redis: dev.Redis) -> Iterator[redis.Redis]:
    with redis.from_url(own_redis.url) as client:
        yield client


def sql(server: dev.Postgres, *statements: str) -> None:
    options = "-c default_transaction_read_only=off"
    with contextlib.closing(psycopg2.connect(server.url, options=options)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def assert_not_ready(response: TestResponse, part: str = "", **failing: str) -> None:
    """Assert a 503 that names the state of each part in a word or two, and nothing more."""
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert int(response.headers["Retry-After"]) >= 1
    body = response.get_json()
    assert body["code"] == "not_ready"
    assert body["checks"] == {**PARTS.get(part, GOOD), **failing}
    members = {"type", "title", "status", "detail", "code", "request_id", "checks"}
    assert set(body) == members
    for detail in ("127.0.0.1", "refused", "Error", "token_service", "alembic", "SELECT"):
        assert detail not in response.text


def assert_alarm(probe: FlaskClient, part: str, **failing: str) -> None:
    """Assert that one part fails, that the other does not, and that requests are still welcome."""
    [other] = PARTS.keys() - {part}
    assert_not_ready(readiness(probe, part), part, **failing)
    # The other part may be slow for a moment.
    until(lambda: checks_of(probe, f"/readyz/{other}") == PARTS[other])
    until(lambda: checks_of(probe) == {**GOOD, **failing})
    assert probe.get(f"/readyz/{other}").get_json() == {"status": "ready", "checks": PARTS[other]}
    response = probe.get("/readyz")
    assert response.status_code == 200
    assert response.get_json() == {"status": "ready", "checks": {**GOOD, **failing}}
    page = probe.get("/metrics").text
    assert value(page, "token_service_ready") == 1
    for name in GOOD:
        right = name not in failing
        assert value(page, "token_service_part_ready", part=name) == right, name


def checks_of(probe: FlaskClient, path: str = "/readyz") -> Any:
    return probe.get(path).get_json()["checks"]


def until_ready(probe: FlaskClient) -> None:
    until(lambda: set(checks_of(probe).values()) == {"ok"})


def test_a_healthy_service_is_ready_and_alive(probe: FlaskClient) -> None:
    until_ready(probe)
    response = probe.get("/readyz")
    assert response.status_code == 200
    assert response.get_json() == {"status": "ready", "checks": GOOD}
    assert probe.get("/healthz").get_json() == {"status": "alive"}
    for part, checks in PARTS.items():
        response = probe.get(f"/readyz/{part}")
        assert response.status_code == 200
        assert response.get_json() == {"status": "ready", "checks": checks}


def test_postgres_down(probe: FlaskClient, own_postgres: dev.Postgres) -> None:
    own_postgres.stop()
    try:
        assert_alarm(probe, "postgres", postgres="unavailable", schema="unknown")
        assert probe.get("/healthz").status_code == 200
    finally:
        own_postgres.start()
    until_ready(probe)


def test_redis_down(probe: FlaskClient, own_redis: dev.Redis) -> None:
    own_redis.stop()
    try:
        assert_alarm(probe, "redis", redis="unavailable")
        assert probe.get("/healthz").status_code == 200
    finally:
        own_redis.start()
    until_ready(probe)


def test_a_service_without_stores_is_alive_and_gets_no_requests(
    probe: FlaskClient, own_postgres: dev.Postgres, own_redis: dev.Redis
) -> None:
    """A liveness probe that checked them would get every process killed in an outage."""
    own_postgres.stop()
    own_redis.stop()
    try:
        response = readiness(probe)
        failing = {"postgres": "unavailable", "schema": "unknown", "redis": "unavailable"}
        assert_not_ready(response, **failing)
        for path in ("/healthz", "/docs", "/openapi.json", "/metrics", "/problems/not_ready"):
            assert probe.get(path).status_code == 200
    finally:
        own_postgres.start()
        own_redis.start()
    until_ready(probe)


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (
            "UPDATE alembic_version SET version_num = 'other' || version_num",
            "UPDATE alembic_version SET version_num = substr(version_num, 6)",
        ),
        (
            "UPDATE alembic_version SET version_num = '0000'",
            "UPDATE alembic_version SET version_num = 'HEAD'",
        ),
        (
            "UPDATE alembic_version SET version_num = '0HEAD'",
            "UPDATE alembic_version SET version_num = 'HEAD'",
        ),
        (
            "INSERT INTO alembic_version VALUES ('NEWER')",
            "DELETE FROM alembic_version WHERE version_num = 'NEWER'",
        ),
        (
            "UPDATE alembic_version SET version_num = 'NEWER'; "
            "ALTER TABLE users RENAME COLUMN nombre TO name",
            "UPDATE alembic_version SET version_num = 'HEAD'; "
            "ALTER TABLE users RENAME COLUMN name TO nombre",
        ),
        (
            "UPDATE alembic_version SET version_num = 'NEWER'; ALTER TABLE users RENAME TO others",
            "UPDATE alembic_version SET version_num = 'HEAD'; ALTER TABLE others RENAME TO users",
        ),
        (
            "INSERT INTO alembic_version VALUES ('another')",
            "DELETE FROM alembic_version WHERE version_num = 'another'",
        ),
        (
            "ALTER TABLE alembic_version RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO alembic_version",
        ),
        (
            "CREATE TABLE kept AS TABLE alembic_version; DELETE FROM alembic_version",
            "INSERT INTO alembic_version TABLE kept; DROP TABLE kept",
        ),
    ],
    ids=[
        "another revision",
        "an older one",
        "a number of another length",
        "two numbers",
        "a higher number without a column",
        "a higher number without the table",
        "a second head",
        "no table",
        "no row",
    ],
)
def test_a_schema_that_is_older_or_of_another_program_is_not_ready(
    spoil: str, mend: str, probe: FlaskClient, own_postgres: dev.Postgres
) -> None:
    """Guard: ``schema.compare``. Other programs number their migrations too."""
    sql(own_postgres, numbered(spoil))
    try:
        assert_not_ready(readiness(probe), schema="not at head")
        assert_not_ready(probe.get("/readyz/postgres"), "postgres", schema="not at head")
    finally:
        sql(own_postgres, numbered(mend))
    until_ready(probe)


@pytest.mark.parametrize(
    "newer",
    [
        "UPDATE alembic_version SET version_num = 'NEWER'",
        "UPDATE alembic_version SET version_num = '0010'",
        "UPDATE alembic_version SET version_num = '9999'",
    ],
)
def test_a_newer_schema_is_ready_and_says_so(
    newer: str, probe: FlaskClient, own_postgres: dev.Postgres
) -> None:
    """As for the old instances of a deployment, and after a rollback: all their calls work."""
    sql(own_postgres, numbered(newer))
    try:
        response = readiness(probe)
        assert response.status_code == 200
        assert response.get_json()["checks"] == {**GOOD, "schema": "newer"}
        assert probe.get("/readyz/postgres").status_code == 200
    finally:
        sql(own_postgres, numbered("UPDATE alembic_version SET version_num = 'HEAD'"))
    until_ready(probe)


def test_a_read_only_postgres_refuses_registrations_and_nothing_else(
    probe: FlaskClient, own_postgres: dev.Postgres
) -> None:
    """As after a failover that leaves the pool with the standby; recovery needs no restart.

    Guard: ``leave_read_only_server`` and ``ReadOnlySqlTransaction`` in ``breaker.is_outage``.
    """
    person = enrol(probe.post)
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
    sql(
        own_postgres,
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    )
    try:
        # The reload takes a moment.
        until(lambda: checks_of(probe, "/readyz/postgres")["postgres"] == "read-only")
        assert_alarm(probe, "postgres", postgres="read-only")
        refused = probe.post("/auth/register", json=account)
        assert refused.status_code == 503
        assert refused.get_json()["code"] == "database_unavailable"
        assert "Retry-After" in refused.headers
        login = {"correo": person.correo, "password": PASSWORD}
        assert probe.post("/auth/login", json=login).status_code == 200
        assert probe.post("/token/create", headers=person.headers).status_code == 201
    finally:
        sql(
            own_postgres,
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )
    until_ready(probe)
    assert probe.post("/auth/register", json=account).status_code == 201


def test_a_redis_replica_raises_the_alarm(probe: FlaskClient, admin: redis.Redis) -> None:
    admin.replicaof("127.0.0.1", "1")
    try:
        assert_alarm(probe, "redis", redis="not a master")
    finally:
        admin.replicaof("NO", "ONE")
    until_ready(probe)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_an_evicting_redis_raises_the_alarm(
    policy: str, probe: FlaskClient, admin: redis.Redis
) -> None:
    """An evicted counter is a limit that does not hold."""
    admin.config_set("maxmemory-policy", policy)
    try:
        assert_alarm(probe, "redis", redis="evicts keys")
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
    until_ready(probe)


def test_a_full_redis_raises_the_alarm(probe: FlaskClient, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "1")
    try:
        assert_alarm(probe, "redis", redis="full")
    finally:
        admin.config_set("maxmemory", "128mb")
    until_ready(probe)


def test_a_redis_with_another_password_raises_the_alarm(
    make_app: Callable[..., Flask], own_postgres: dev.Postgres, own_redis: dev.Redis
) -> None:
    wrong = f"redis://:{secrets.token_urlsafe(12)}@127.0.0.1:{own_redis.port}/0"
    app = make_app(database_url=own_postgres.url, redis_url=wrong)
    assert_alarm(app.test_client(), "redis", redis="unavailable")
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_operations_need_no_caller(path: str, probe: FlaskClient) -> None:
    assert probe.get(path).status_code == 200
    assert probe.get(path, headers={"Authorization": "Bearer x"}).status_code == 200


# Metrics.


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.53", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),  # by a dual-stack socket
        ("0:0:0:0:0:0:0:1", 200),
        ("::1%lo", 200),
        ("::127.0.0.1", 403),
        ("0.0.0.0", 403),
        ("::", 403),
        ("localhost", 403),
        ("192.0.2.1", 403),
        ("10.0.0.1", 403),
        ("2001:db8::1", 403),
        ("::ffff:192.0.2.1", 403),
        ("", 403),
        ("unknown", 403),
    ],
)
def test_metrics_are_for_loopback(address: str, status: int, client: FlaskClient) -> None:
    response = client.get("/metrics", environ_overrides={"REMOTE_ADDR": address})
    assert response.status_code == status
    if status == 403:
        assert response.get_json()["code"] == "forbidden"


@pytest.mark.slow
@needs(Path("/proc/net/if_inet6").exists(), "this machine has no IPv6")
def test_metrics_are_for_loopback_on_every_socket(serve: Callable[..., Service]) -> None:
    """A dual-stack socket, as of ``--bind [::]``, names 127.0.0.1 in another spelling."""
    service = serve(web_concurrency=1)
    service.host = "[::]"
    with service:
        for host in ("127.0.0.1", "[::1]", "127.0.0.2"):
            response = httpx.get(f"http://{host}:{service.port}/metrics", timeout=30)
            assert response.status_code == 200, host
            forwarded = {"X-Forwarded-For": "[::1]:4711"}
            response = httpx.get(
                f"http://{host}:{service.port}/metrics", headers=forwarded, timeout=30
            )
            assert response.status_code == 403, host


def test_metrics_ignore_a_forwarded_address(client: FlaskClient) -> None:
    response = client.get(
        "/metrics",
        headers={"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
        environ_overrides={"REMOTE_ADDR": "192.0.2.1"},
    )
    assert response.status_code == 403


def test_metrics_with_a_token_are_for_its_bearer_alone(make_app: Callable[..., Flask]) -> None:
    token = secrets.token_urlsafe(24)
    client = make_app(metrics_token=token).test_client()

    def get(header: str | None, address: str = "192.0.2.1") -> TestResponse:
        headers = {"Authorization": header} if header else {}
        return client.get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address})

    assert get(f"Bearer {token}").status_code == 200
    refused = [None, "Bearer", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {token}"]
    for header in [*refused, "Bearer \u00e9", token, f"Bearer  {token}"]:
        for address in ("192.0.2.1", "127.0.0.1"):
            response = get(header, address)
            assert response.status_code == 401, header
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert response.get_json()["code"] == "not_authenticated"
