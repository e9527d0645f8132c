"""Erasing an account, exporting it, and purging its sessions."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.callers import Caller
from tests.stage.commands import output, refusal
from tests.stage.people import PASSWORD, WRONG_PASSWORD, Person
from tests.stage.problems import problem_in
from tests.stage.queries import execute
from tests.stage.sessions import Login
from tests.stage.waiting import until
from tokenservice.auth.commands import users
from tokenservice.auth.session_commands import sessions


@pytest.fixture
def session(client: FlaskClient, person: Person) -> Login:
    return Login.of(client.post, person)


def stored(app: Flask, person: Person) -> str:
    """All that Postgres has about an account."""
    found = [
        *execute(app, "SELECT u::text AS it FROM users u WHERE id = :id", id=person.id),
        *execute(app, "SELECT s::text AS it FROM sessions s WHERE user_id = :id", id=person.id),
        *execute(app, "SELECT k::text AS it FROM service_keys k WHERE user_id = :id", id=person.id),
    ]
    return "\n".join(row["it"] for row in found)


def new_key(client: FlaskClient, session: Login) -> str:
    body = {"name": "contabilidad", "scopes": ["token:create"]}
    return str(client.post("/auth/keys", json=body, headers=session.headers).get_json()["key"])


@pytest.mark.parametrize("by", ["its owner", "an operator"])
def test_an_erased_account_is_gone(
    app: Flask, client: FlaskClient, session: Login, person: Person, other: Person, by: str
) -> None:
    key = new_key(client, session)
    token = Caller(client, person).create()["token"]
    personal = (person.correo, ",Ana,", "Werkzeug", "127.0.0.1", "contabilidad", "argon2")
    before = stored(app, person)
    assert all(words in before for words in personal)
    if by == "its owner":
        problem_in(session.act("me/erase", password=WRONG_PASSWORD), 401, "invalid_credentials")
        assert session.refresh().status() == 201
        session = Login.of(client.post, person)
        assert session.act("me/erase", password=PASSWORD).status_code == 204
    else:
        app.test_cli_runner().invoke(users, ["erase", person.correo], input="n\n")
        assert session.status() == 201
        output(app.test_cli_runner().invoke(users, ["erase", person.correo, "--yes"]))
    left = stored(app, person)
    assert not [words for words in personal if words in left]
    for table, column in (("sessions", "ended_at"), ("service_keys", "revoked_at")):
        query = f"SELECT FROM {table} WHERE user_id = :id AND {column} IS NULL"
        assert not execute(app, query, id=person.id)
    problem_in(session.present(), 401, "session_ended")
    until(lambda: session.status() == 401, seconds=2)
    keyed = {"Authorization": f"Bearer {key}"}
    until(lambda: client.post("/token/create", headers=keyed).status_code == 401, seconds=2)
    problem_in(Caller(client, other).post("validate", token=token), 410, "token_revoked")
    body = {"correo": person.correo, "password": PASSWORD}
    problem_in(client.post("/auth/login", json=body), 401, "invalid_credentials")


def test_an_erased_account_stays_erased_and_its_address_is_free(
    app: Flask, client: FlaskClient, session: Login, person: Person
) -> None:
    assert session.act("me/erase", password=PASSWORD).status_code == 204
    gone = f"{person.id}@erased.invalid"
    enabled = app.test_cli_runner().invoke(users, ["enable", gone])
    assert "erased for good" in refusal(enabled)
    account = {"nombre": "Eva", "password": PASSWORD}
    taken = client.post("/auth/register", json={**account, "correo": gone})
    assert taken.status_code == 422
    again = client.post("/auth/register", json={**account, "correo": person.correo})
    assert again.status_code == 201
    assert again.get_json()["id"] != person.id


def test_without_redis_nothing_is_erased(
    make_app: Callable[..., Flask], app: Flask, person: Person
) -> None:
    """Guard: the cut-off stands before the commit. It can be repeated."""
    away = make_app(redis_url="redis://127.0.0.1:1/0").test_client()
    session = Login.of(away.post, person)
    problem_in(session.act("me/erase", password=PASSWORD), 503, "store_unavailable")
    assert person.correo in stored(app, person)
    assert session.refresh()


def test_an_export_has_all_but_secrets(
    app: Flask, client: FlaskClient, session: Login, person: Person, other: Person
) -> None:
    key = new_key(client, session)
    made = Caller(client, person).create(purpose="x.y")
    session.act("logout")
    found = json.loads(output(app.test_cli_runner().invoke(users, ["export", person.correo])))
    assert found["account"]["correo"] == person.correo
    [first, second] = sorted(found["sessions"], key=lambda one: str(one["ended_why"]))
    assert (first["ended_why"], second["ended_why"]) == (None, "logout")
    assert second["address"] == "127.0.0.1"
    assert [one["name"] for one in found["keys"]] == ["contabilidad"]
    assert [one["id"] for one in found["tokens"]] == [made["id"]]
    assert [(one["action"], one["address"]) for one in found["events"]] == [
        ("account.registered", "127.0.0.1"),
        *[("session.opened", "127.0.0.1")] * 2,
        ("key.created", "127.0.0.1"),
        ("session.ended", "127.0.0.1"),
    ]
    told = json.dumps(found)
    for secret in (session.refresh_token, made["token"], key, "argon2", "hash", other.correo):
        assert secret not in told


def test_a_purge_deletes_what_ended_long_ago(
    app: Flask, client: FlaskClient, session: Login, person: Person
) -> None:
    logins = {
        name: Login.of(client.post, person) for name in ("open", "ended", "long ended", "idle")
    }
    logins["ended"].act("logout")
    logins["long ended"].act("logout")
    back = "UPDATE sessions SET {} = now() - interval '{} days' WHERE id = :id"
    execute(app, back.format("ended_at", 31), id=logins["long ended"].id)
    execute(app, back.format("rotated_at", 45), id=logins["idle"].id)
    purged = output(app.test_cli_runner().invoke(sessions, ["purge"]))
    assert int(purged.split()[0]) >= 2
    left = [str(row["id"]) for row in execute(app, "SELECT id FROM sessions")]
    assert [one.id in left for one in logins.values()] == [True, True, False, False]
    assert logins["open"].refresh().status() == 201
    assert output(app.test_cli_runner().invoke(sessions, ["purge"])) == "0 sessions deleted.\n"
