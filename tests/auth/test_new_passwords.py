"""New passwords: with the old one, or with a reset token."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

import dev
from tests.stage.callers import Caller
from tests.stage.commands import output, refusal
from tests.stage.people import PASSWORD, WRONG_PASSWORD, Person
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.sessions import Login
from tokenservice.auth.commands import users
from tokenservice.auth.new_passwords import PURPOSE, SERVICE
from tokenservice.extensions import db, tokens
from tokenservice.onetime.values import Terms

NEW = "quatre gats negres sota la pluja"
OTHER = "cinco burros verdes bajo el sol"


@pytest.fixture
def session(client: FlaskClient, person: Person) -> Login:
    return Login.of(client.post, person)


def logs_in(client: FlaskClient, person: Person, password: str) -> bool:
    body = {"correo": person.correo, "password": password}
    return client.post("/auth/login", json=body).status_code == 200


def reset(client: FlaskClient, token: str, password: str = NEW, key: str = "", **more: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"token": token, "password": password, **more}
    return client.post("/auth/password/reset", json=body, headers=headers)


def command(app: Flask, *words: str) -> Any:
    return app.test_cli_runner().invoke(users, words)


@pytest.fixture
def token(app: Flask, person: Person) -> str:
    return str(json.loads(output(command(app, "reset-token", person.correo)))["token"])


def test_a_change_needs_the_old_password_and_ends_all_other_sessions(
    client: FlaskClient, session: Login, person: Person
) -> None:
    """S17, V6.2.3, V7.4.3."""
    other = Login.of(client.post, person)
    wrong = session.act("password", old=WRONG_PASSWORD, new=NEW)
    problem_in(wrong, 401, "invalid_credentials")
    other = other.refresh()
    assert session.act("password", old=PASSWORD, new=NEW).status_code == 204
    problem_in(other.present(), 401, "session_ended")
    assert session.refresh().status() == 201
    assert logs_in(client, person, NEW)
    assert not logs_in(client, person, PASSWORD)


@pytest.mark.parametrize("new", ["1234567", "password", "ana ana ana ana", "x" * 129])
def test_a_new_password_has_the_rules_of_registration(session: Login, new: str) -> None:
    refusal_of_field(session.act("password", old=PASSWORD, new=new), "new")
    assert session.refresh().status() == 201


def test_guesses_of_the_old_password_count_as_those_of_a_login(
    limited: Callable[..., FlaskClient], counters: Any, person: Person
) -> None:
    """Guard: ``limited_password``. With a stolen JWT anyone could guess."""
    client = limited(rate_limit_login="3 per minute")
    session = Login.of(client.post, person)
    for _ in range(3):
        assert session.act("password", old=WRONG_PASSWORD, new=NEW).status_code == 401
    for path, body in (
        ("password", {"old": PASSWORD, "new": NEW}),
        ("me/erase", {"password": PASSWORD}),
    ):
        problem_in(session.act(path, **body), 429, "rate_limited")
    assert not logs_in(client, person, PASSWORD)


def test_right_passwords_count_in_no_limit(
    limited: Callable[..., FlaskClient], counters: Any, person: Person
) -> None:
    session = Login.of(limited(rate_limit_login="3 per minute").post, person)
    words = [PASSWORD, NEW, OTHER]
    for n in range(6):
        old, new = words[n % 3], words[(n + 1) % 3]
        assert session.act("password", old=old, new=new).status_code == 204


def test_a_reset_token_sets_a_password_once(
    client: FlaskClient, session: Login, person: Person, token: str
) -> None:
    assert reset(client, token).status_code == 204
    problem_in(session.present(), 401, "session_ended")
    assert logs_in(client, person, NEW)
    assert not logs_in(client, person, PASSWORD)
    problem_in(reset(client, token, OTHER), 409, "token_already_used")
    assert logs_in(client, person, NEW)


def test_the_password_is_judged_before_the_token_is_consumed(
    client: FlaskClient, token: str
) -> None:
    """Guard: the order in ``reset_password``."""
    for weak in ("1234567", "password", "ana ana ana ana"):
        refusal_of_field(reset(client, token, weak), "password")
    problem_in(reset(client, token, key="\u00f1"), 422, "validation_failed")
    assert reset(client, token).status_code == 204


def test_a_lost_response_is_repeated_with_the_same_key(
    client: FlaskClient, person: Person, token: str
) -> None:
    assert reset(client, token, key="k").status_code == 204
    login = Login.of(client.post, person, NEW)
    assert reset(client, token, key="k").status_code == 204
    assert login.refresh().status() == 201  # The repeat ended nothing.
    for repeat in ({"key": "j"}, {"key": "k", "password": OTHER}, {}):
        problem_in(reset(client, token, **repeat), 409, "token_already_used")
    assert logs_in(client, person, NEW)


def test_a_repeat_does_not_undo_a_later_change(
    client: FlaskClient, person: Person, token: str
) -> None:
    """Guard: ``fingerprint``. Whoever saw the first call could set that password again."""
    assert reset(client, token, key="k").status_code == 204
    login = Login.of(client.post, person, NEW)
    assert login.act("password", old=NEW, new=OTHER).status_code == 204
    problem_in(reset(client, token, key="k"), 404, "token_unknown")
    assert logs_in(client, person, OTHER)


def test_a_change_ends_the_reset_tokens_before_it(
    client: FlaskClient, session: Login, token: str
) -> None:
    assert session.act("password", old=PASSWORD, new=NEW).status_code == 204
    problem_in(reset(client, token, OTHER), 404, "token_unknown")


def test_two_clients_may_choose_the_same_key(
    app: Flask, client: FlaskClient, person: Person, other: Person, token: str
) -> None:
    second = json.loads(output(command(app, "reset-token", other.correo)))["token"]
    assert reset(client, token, key="k").status_code == 204
    assert reset(client, second, key="k").status_code == 204
    assert logs_in(client, person, NEW)
    assert logs_in(client, other, NEW)


def test_what_postgres_refuses_consumes_no_token(
    app: Flask, client: FlaskClient, person: Person, token: str, postgres: dev.Postgres
) -> None:
    """Guard: the consume stands last before the commit."""
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(text("SELECT FROM users WHERE id = :id FOR UPDATE"), {"id": person.id})
        problem_in(reset(client, token), 503, "database_unavailable")
    assert logs_in(client, person, PASSWORD)
    assert reset(client, token).status_code == 204


def test_nobody_else_makes_or_uses_such_a_token(
    app: Flask, client: FlaskClient, person: Person, other: Person, token: str
) -> None:
    """Guards: ``not_reserved``, the audience of the token, and its owner in ``account_of``."""
    for path, more in (("create", {}), ("batch", {"count": 2})):
        for purpose in ("auth.reset", "auth.", "auth.x"):
            body = {"purpose": purpose, "expires_in": 60, **more}
            response = client.post(f"/token/{path}", json=body, headers=person.headers)
            refusal_of_field(response, "purpose")
    assert Caller(client, person).create(purpose="author")["purpose"] == "author"

    for verb in ("validate", "reserve"):
        for someone in (person, other):
            used = client.post(
                f"/token/{verb}",
                json={"token": token, "purpose": PURPOSE},
                headers=someone.headers,
            )
            problem_in(used, 403, "token_not_for_caller")
    shown = Caller(client, person).post("introspect", token=token)
    assert shown.get_json() == {"active": False}

    with app.app_context():
        # As of the release before, which reserved no purpose.
        for audience in ((), (SERVICE.id,)):
            terms = Terms(PURPOSE, audience, subject=person.id)
            forged = tokens.create(other.id, life_seconds=60, terms=terms).text
            problem_in(reset(client, forged), 404, "token_unknown")
    problem_in(reset(client, Caller(client, other).create()["token"]), 404, "token_unknown")
    problem_in(reset(client, token[:-1]), 422, "token_malformed")
    assert logs_in(client, person, PASSWORD)
    assert reset(client, token).status_code == 204


def test_a_disabled_account_is_not_reset(
    app: Flask, client: FlaskClient, person: Person, token: str
) -> None:
    output(command(app, "disable", person.correo))
    problem_in(reset(client, token), 404, "token_unknown")
    assert "is disabled" in refusal(command(app, "reset-token", person.correo))
    output(command(app, "enable", person.correo))
    assert reset(client, token).status_code == 204


def test_the_command_prints_a_link_with_the_token_behind_the_hash(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    page = "https://app.example.com/reset?lang=es"
    made = json.loads(output(command(app, "reset-token", person.correo, "--page", page)))
    assert set(made) == {"link", "id", "expires_at"}
    before, _, token = made["link"].partition("#token=")
    assert before == page
    assert reset(client, token).status_code == 204
    for wrong in ("https://x#y", "javascript:alert(1)", "app.example.com", "https://x y"):
        assert "--page" in refusal(command(app, "reset-token", person.correo, "--page", wrong))


def test_resets_are_limited_by_address(
    limited: Callable[..., FlaskClient], counters: Any, token: str
) -> None:
    client = limited(rate_limit_login="3 per minute")
    for _ in range(3):
        assert reset(client, "ott_").status_code == 422
    problem_in(reset(client, token), 429, "rate_limited")


def test_set_password_ends_all_sessions(
    app: Flask, client: FlaskClient, session: Login, person: Person
) -> None:
    given = {"input": f"{NEW}\n"}
    words = ["set-password", person.correo, "--password-stdin"]
    output(app.test_cli_runner().invoke(users, words, **given))
    problem_in(session.present(), 401, "session_ended")
    assert logs_in(client, person, NEW)


def test_disabling_ends_all_sessions_for_good(
    app: Flask, client: FlaskClient, session: Login, person: Person
) -> None:
    output(command(app, "disable", person.correo))
    output(command(app, "enable", person.correo))
    problem_in(session.present(), 401, "session_ended")
    assert Login.of(client.post, person).refresh().status() == 201
