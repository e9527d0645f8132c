"""The roles of deploy/postgres: the owner migrates, and the application can destroy nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import flask_migrate
import httpx
import psycopg2
import pytest
from flask import Flask
from psycopg2 import errorcodes
from sqlalchemy.exc import ProgrammingError

from tests.stage.people import PASSWORD, enrol, new_correo
from tests.stage.service import Service
from tests.torture import deployed
from tests.torture.ledger import record
from tokenservice.extensions import db

# Statements that destroy, hide or take over data; each is well formed, and open to a superuser.
FORBIDDEN = [
    "DROP TABLE users CASCADE",
    "TRUNCATE users CASCADE",
    "DELETE FROM users",
    "DELETE FROM service_keys",
    "DELETE FROM sessions",
    "UPDATE audit_events SET reason = ''",
    "DELETE FROM audit_events",
    "TRUNCATE audit_events",
    "ALTER TABLE users ADD COLUMN is_admin boolean",
    "ALTER TABLE users DISABLE TRIGGER ALL",
    "CREATE INDEX ON users (nombre)",
    "CREATE TRIGGER t BEFORE UPDATE ON users EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE TABLE mine (id int)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE VIEW mine AS SELECT * FROM users",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "DROP EXTENSION plpgsql",
    "INSERT INTO alembic_version VALUES ('0000')",
    "UPDATE alembic_version SET version_num = '0000'",
    "DELETE FROM alembic_version",
    "DROP TABLE alembic_version",
    "DROP SCHEMA public CASCADE",
    "DROP DATABASE token_service",
    "ALTER DATABASE deployed SET default_transaction_read_only = on",
    f"ALTER ROLE {deployed.OWNER} PASSWORD 'mine'",
    f"ALTER ROLE {deployed.APP} SUPERUSER",
    f"SET ROLE {deployed.OWNER}",
    f"GRANT {deployed.OWNER} TO {deployed.APP}",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SELECT pg_reload_conf()",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT rolpassword FROM pg_authid",
    "COPY users TO PROGRAM 'cat'",
    "COPY users TO '/tmp/users'",
    "COPY users FROM '/etc/passwd'",
]
# Statements forbidden to the owner too, which owns tables and not the server.
BEYOND_THE_OWNER = [
    "CREATE SCHEMA mine",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "DROP DATABASE token_service",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT rolpassword FROM pg_authid",
    "COPY users TO PROGRAM 'cat'",
]


DENIED = errorcodes.INSUFFICIENT_PRIVILEGE


@pytest.fixture(scope="module")
def server(
    make_app: Callable[..., Flask], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[deployed.Postgres]:
    """Migrated by its owner, as the service ``migrate`` of docker-compose.yml does."""

    def upgrade(role: str) -> None:
        app = make_app(database_url=server.url_of(role))
        with app.app_context():
            try:
                flask_migrate.upgrade()
            finally:
                db.engine.dispose()

    with deployed.Postgres(tmp_path_factory.mktemp("deployed")) as server:
        with pytest.raises(ProgrammingError, match="permission denied for schema public"):
            upgrade(deployed.APP)
        upgrade(deployed.OWNER)
        yield server


def outcome(connection: Any, statement: str) -> str | None:
    """The SQLSTATE of a failed ``statement``; None after a success."""
    try:
        connection.cursor().execute(statement)
    except psycopg2.Error as error:
        return error.pgcode
    return None


def outcomes(url: str, statements: list[str]) -> dict[str, str | None]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        return {statement: outcome(connection, statement) for statement in statements}


def test_the_application_destroys_nothing(server: deployed.Postgres) -> None:
    """S58. Guard: what roles.sql grants to token_service_app, which owns nothing."""
    results = outcomes(server.url_of(deployed.APP), FORBIDDEN)
    allowed = [statement for statement, why in results.items() if why != DENIED]
    record(
        "The service's role in Postgres may not destroy or take over data.",
        n=len(FORBIDDEN),
        failures=len(allowed),
    )
    assert not allowed


def test_an_application_with_the_owners_rights_is_noticed(server: deployed.Postgres) -> None:
    """The twin: with the owner's rights some of these statements pass, so the roles refuse them."""
    with contextlib.closing(psycopg2.connect(server.superuser_url)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"GRANT {deployed.OWNER} TO {deployed.APP}")
        cursor.execute(f"SET LOCAL ROLE {deployed.APP}")
        cursor.execute("SAVEPOINT before")
        passed = []
        for statement in FORBIDDEN:
            if outcome(connection, statement) is None:
                passed.append(statement)
            cursor.execute("ROLLBACK TO before")
        connection.rollback()
    assert {"DROP TABLE users CASCADE", "DELETE FROM users", "TRUNCATE users CASCADE"} <= set(
        passed
    )


def test_the_owner_of_the_tables_does_not_own_the_server(server: deployed.Postgres) -> None:
    results = outcomes(server.url_of(deployed.OWNER), BEYOND_THE_OWNER)
    assert {statement for statement, why in results.items() if why != DENIED} == set()


def test_the_roles_can_be_created_again(server: deployed.Postgres) -> None:
    """For a database that exists before the roles, with its tables."""
    server.run_roles()
    results = outcomes(server.url_of(deployed.APP), ["SELECT FROM users", *FORBIDDEN])
    assert results.pop("SELECT FROM users") is None
    assert set(results.values()) == {DENIED}


def startup(server: deployed.Postgres, user: str, address: str) -> bytes:
    """The first reply of Postgres to a ``user`` that connects from ``address``."""
    words = b"".join(word.encode() + b"\0" for word in ("user", user, "database", "deployed"))
    message = struct.pack("!ii", len(words) + 9, 3 << 16) + words + b"\0"
    with socket.create_connection(
        ("127.0.0.1", server.port), timeout=5, source_address=(address, 0)
    ) as connection:
        connection.sendall(message)
        return connection.recv(1000)


def test_each_role_connects_from_its_own_addresses_only(server: deployed.Postgres) -> None:
    """Guard: pg_hba.conf. The owner needs no password, and so must connect locally."""
    asked_for_a_password, in_at_once = b"R\0\0\0\x17\0\0\0\x0aSCRAM", b"R\0\0\0\x08\0\0\0\0"
    assert startup(server, deployed.OWNER, "127.0.0.1").startswith(in_at_once)
    assert b"no pg_hba.conf entry" in startup(server, deployed.OWNER, "127.0.0.2")
    for address in ("127.0.0.1", "127.0.0.2"):
        assert startup(server, deployed.APP, address).startswith(asked_for_a_password)
        assert b"no pg_hba.conf entry" in startup(server, "postgres", address)


def test_the_least_role_suffices_for_the_account_commands(
    server: deployed.Postgres, make_app: Callable[..., Flask]
) -> None:
    run = make_app(database_url=server.url_of(deployed.APP)).test_cli_runner().invoke
    correo = new_correo()
    before = run(args=["users", "list"]).output.splitlines()
    for words in (
        ["create", correo, "--nombre", "Ana", "--password-stdin"],
        ["seed", "--count", "3", "--password-stdin"],
        ["disable", correo],
        ["enable", correo],
        ["set-password", correo, "--password-stdin"],
        ["list"],
    ):
        done = run(args=["users", *words], input=f"{PASSWORD}\n")
        assert done.exit_code == 0, done.output
    listed = [json.loads(line)["correo"] for line in done.output.splitlines()]
    assert correo in listed
    assert len(listed) == len(before) + 4


def test_the_owner_purges_the_audit_trail_and_the_service_only_reads_it(
    server: deployed.Postgres, make_app: Callable[..., Flask]
) -> None:
    def run(role: str, *words: str) -> click.testing.Result:
        app = make_app(database_url=server.url_of(role))
        return app.test_cli_runner().invoke(args=["audit", *words])

    assert "database.upgraded" in run(deployed.APP).output
    assert "no permission" in run(deployed.APP, "purge").output
    assert run(deployed.OWNER, "purge").output == "0 events deleted, and 0 addresses.\n"


def test_the_least_role_and_user_suffice_for_the_service(
    server: deployed.Postgres, serve: Callable[..., Service], tmp_path: Path
) -> None:
    """Every part works with the least user of Redis and the least role of Postgres."""
    with (
        deployed.Redis(tmp_path) as redis,
        serve(
            database_url=server.url_of(deployed.APP),
            redis_url=redis.url,
            web_concurrency=1,
            rate_limit_create="60 per minute",
        ) as service,
        httpx.Client(base_url=service.url, timeout=10) as http,
    ):
        assert set(http.get("/readyz").json()["checks"].values()) == {"ok"}
        person = enrol(http.post)
        created = http.post("/token/create", headers=person.headers)
        assert created.headers["RateLimit"].startswith('"create";r=59;')
        token = {"token": created.json()["token"]}
        responses = [
            http.post("/token/validate", json=token, headers=person.headers) for _ in range(2)
        ]
        program = {"name": "a", "scopes": ["token:create"]}
        key = http.post("/auth/keys", json=program, headers=person.headers).json()
        bearer = {"Authorization": f"Bearer {key['key']}"}
        assert http.post("/token/create", headers=bearer).status_code == 201
        login = {"correo": person.correo, "password": PASSWORD}
        session = http.post("/auth/login", json=login).json()
        body = {"refresh_token": session["refresh_token"]}
        assert http.post("/auth/refresh", json=body).status_code == 200
        ended = http.post(
            "/auth/logout", headers={"Authorization": f"Bearer {session['access_token']}"}
        )
        assert ended.status_code == 204
        ended = http.delete(f"/auth/keys/{key['id']}", headers=person.headers)
        assert ended.status_code == 204
        assert "callers.unwatched" not in service.log.read_text()
    assert [response.status_code for response in responses] == [200, 409]
