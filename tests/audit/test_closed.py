"""An event and its change are one: neither is there without the other."""

from __future__ import annotations

import re
from collections.abc import Callable

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient

import dev
from tests.audit.table import actions, closed, newest
from tests.stage.callers import Caller, always_fresh
from tests.stage.doors import always_near, open_door
from tests.stage.keys import bearer, new_key
from tests.stage.people import PASSWORD, WRONG_PASSWORD, Person, enrol, new_correo
from tests.stage.queries import execute, recorded
from tests.stage.sessions import Login

Run = Callable[..., str]


def login(client: FlaskClient, correo: str, password: str = PASSWORD) -> int:
    return client.post("/auth/login", json={"correo": correo, "password": password}).status_code


def test_refused_calls_have_no_event(app: Flask, client: FlaskClient, person: Person) -> None:
    """A stranger would fill the table. The log has them."""
    session, made = Login.of(client.post, person), new_key(client.post, person)
    assert client.delete(f"/auth/keys/{made['id']}", headers=person.headers).status_code == 204
    body = {"nombre": "Ana", "correo": person.correo, "password": PASSWORD}
    spent = session.refresh_token[:-1]
    before = newest(app)
    for _ in range(3):
        assert login(client, person.correo, WRONG_PASSWORD) == 401
        assert login(client, new_correo()) == 401
        assert client.post("/auth/register", json=body).status_code == 409
        assert session.present(spent).status_code == 401
        assert session.act("me/erase", password=WRONG_PASSWORD).status_code == 401
        change = {"old": WRONG_PASSWORD, "new": "una frase de verdad muy larga"}
        assert session.act("password", **change).status_code == 401
        assert client.post("/token/create", headers=bearer(made["key"])).status_code == 401
        assert client.get("/auth/me", headers=bearer("eyJ.e.x")).status_code == 401
        form = {"grant_type": "client_credentials", "client_secret": made["key"]}
        assert client.post("/auth/token", data=form).status_code == 401
    assert actions(app, before) == []


def test_a_change_that_is_rolled_back_leaves_no_event(
    make_app: Callable[..., Flask], app: Flask, client: FlaskClient, person: Person
) -> None:
    """Redis is away, or the token was used: the deed is refused after its event was written."""
    away = make_app(redis_url="redis://127.0.0.1:1/0")
    session = Login.of(away.test_client().post, person)
    used = Caller(client, person).create()
    assert Caller(client, person).post("validate", token=used["token"]).status_code == 200
    before = newest(app)
    assert session.act("me/erase", password=PASSWORD).status_code == 503
    for one, words in (
        (away, ("tokens", "revoke-all", person.correo)),
        (away, ("tokens", "create", person.correo)),
        (away, ("users", "erase", person.correo, "--yes")),
        (app, ("tokens", "revoke", used["id"])),
        (app, ("keys", "revoke", "0" * 18)),
    ):
        assert one.test_cli_runner().invoke(args=words).exit_code == 1
    assert actions(app, before) == []


def test_where_no_event_can_be_written_there_is_no_change(
    app: Flask, postgres: dev.Postgres, client: FlaskClient, person: Person
) -> None:
    """Guard: one transaction, and the event before the deed in Redis."""
    session, token = Login.of(client.post, person), Caller(client, person).create()
    made = new_key(client.post, person)

    def command(*words: str) -> str:
        done = app.test_cli_runner().invoke(args=words, input=f"{PASSWORD}\n")
        assert done.exit_code == 1
        return done.output

    with closed(postgres.url):
        assert login(client, person.correo) == 500
        account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
        assert client.post("/auth/register", json=account).status_code == 500
        for path in (f"/auth/keys/{made['id']}", f"/auth/sessions/{session.id}"):
            assert client.delete(path, headers=person.headers).status_code == 500
        assert session.act("me/erase", password=PASSWORD).status_code == 500
        command("tokens", "revoke", token["id"])
        command("tokens", "revoke-all", person.correo)
        command("users", "set-password", person.correo, "--password-stdin")
        command("users", "erase", person.correo, "--yes")
        for words in (("tokens", "create"), ("users", "reset-token")):
            assert "ott_" not in command(*words, person.correo)
    assert session.refresh().status() == 201
    assert client.post("/token/create", headers=bearer(made["key"])).status_code == 201
    assert Caller(client, person).post("validate", token=token["token"]).status_code == 200
    found = "SELECT count(*) FROM sessions WHERE user_id = :id"
    assert execute(app, found, id=person.id)[0]["count"] == 2
    assert not execute(app, "SELECT FROM users WHERE correo = :it", it=account["correo"])


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
def test_a_login_gains_one_insert_and_a_token_call_none(
    make_app: Callable[..., Flask], is_direct: bool
) -> None:
    own = make_app()
    person = enrol(own.test_client().post)
    key = bearer(new_key(own.test_client().post, person)["key"])
    with always_near(), always_fresh():
        if is_direct:
            open_door(own)
        client = own.test_client()
        for headers in (person.headers, key):
            assert client.post("/token/create", headers=headers).status_code == 201
        with recorded(own, "INSERT INTO audit_events") as seen:
            assert login(client, person.correo) == 200
            assert len(seen) == 1
            new_key(client.post, person)
            assert len(seen) == 2
        with recorded(own, own=True) as seen:
            for headers in (person.headers, key):
                made = client.post("/token/create", headers=headers).get_json()
                body = {"token": made["token"]}
                assert client.post("/token/validate", json=body, headers=headers).status_code == 200
            assert client.post("/token/revoke-all", headers=key).status_code == 204
        assert not [query for query in seen if re.search("audit|users", query)]


def test_a_login_on_a_read_only_postgres_has_no_event(
    make_app: Callable[..., Flask], app: Flask, config: object, person: Person
) -> None:
    """It opens no session either, and works."""
    url = f"{config.database_url}?options=-c%20default_transaction_read_only%3Don"  # type: ignore[attr-defined]
    before = newest(app)
    client = make_app(database_url=url).test_client()
    body = {"correo": person.correo, "password": PASSWORD}
    response = client.post("/auth/login", json=body)
    assert response.status_code == 200
    assert "refresh_token" not in response.get_json()
    assert actions(app, before) == []


def test_on_the_schema_of_the_version_before_a_login_works(empty: Flask) -> None:
    """While a deployment migrates: as on a read-only Postgres, without a session."""
    flask_migrate.upgrade()
    client = empty.test_client()
    person = enrol(client.post)
    flask_migrate.downgrade(revision="0005")
    body = {"correo": person.correo, "password": PASSWORD}
    response = client.post("/auth/login", json=body)
    assert (response.status_code, "refresh_token" in response.get_json()) == (200, False)


def test_a_migration_has_its_event(empty: Flask) -> None:
    flask_migrate.upgrade()
    flask_migrate.upgrade()
    flask_migrate.downgrade(revision="0005")
    flask_migrate.upgrade()
    found = execute(empty, "SELECT action, actor_kind, facts FROM audit_events ORDER BY id")
    assert [tuple(row.values()) for row in found] == [
        ("database.upgraded", "operator", {"before": "0005", "after": "0006"})
    ]
