"""Accounts: registration, login and deactivation."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

import dev
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.service import Service
from tokenservice.auth.models import User
from tokenservice.extensions import db

addresses = itertools.count(1)


def client_of(app: Flask) -> FlaskClient:
    """A client with an address of its own."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = f"10.8.{next(addresses) // 250}.{next(addresses) % 250}"
    return client


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return client_of(app)


def register(client: FlaskClient, **changed: Any) -> TestResponse:
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD, **changed}
    return client.post("/auth/register", json=account)


def login(client: FlaskClient, correo: str, password: str = PASSWORD) -> TestResponse:
    return client.post("/auth/login", json={"correo": correo, "password": password})


def claims_of(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return claims


def stored_hash(app: Flask, correo: str) -> str:
    with app.app_context():
        found = db.session.scalar(select(User.password_hash).where(User.correo == correo))
    assert found
    return found


def set_active(app: Flask, correo: str, is_active: bool) -> None:
    with app.app_context():
        db.session.execute(update(User).where(User.correo == correo).values(is_active=is_active))
        db.session.commit()


def test_registration_returns_the_account_and_nothing_more(client: FlaskClient) -> None:
    response = register(client, nombre="  Íñigo  ", correo=" Inigo.Register@Example.COM ")
    assert response.status_code == 201
    account = response.json
    assert set(account) == {"id", "nombre", "correo", "is_active", "created_at"}
    assert uuid.UUID(account["id"]).version == 7
    assert account["nombre"] == "Íñigo"
    assert account["correo"] == "inigo.register@example.com"
    assert account["is_active"] is True
    created = datetime.fromisoformat(account["created_at"])
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=5)


def test_login_returns_a_bearer_token_of_the_account(client: FlaskClient) -> None:
    account = register(client).json
    response = login(client, account["correo"])
    assert response.status_code == 200
    assert response.json["token_type"] == "bearer"
    assert response.json["expires_in"] == 15 * 60
    claims = claims_of(response.json["access_token"])
    assert claims["sub"] == account["id"]
    assert claims["exp"] - claims["iat"] == 15 * 60
    headers = {"Authorization": f"Bearer {response.json['access_token']}"}
    me = client.get("/auth/me", headers=headers)
    assert me.status_code == 200
    assert me.json == account


def test_a_jwt_holds_no_personal_data(client: FlaskClient, person: Person) -> None:
    claims = claims_of(person.headers["Authorization"].removeprefix("Bearer "))
    assert person.correo not in json.dumps(claims)
    assert "nombre" not in claims


def test_a_client_of_the_seed_works_unchanged(client: FlaskClient) -> None:
    """It reads access_token, then token, and takes a 200 for "valid, now consumed"."""
    account = {"nombre": "Eva", "correo": new_correo(), "password": PASSWORD}
    assert client.post("/auth/register", json=account).status_code == 201
    credentials = {"correo": account["correo"], "password": account["password"]}
    jwt = client.post("/auth/login", json=credentials).json["access_token"]
    headers = {"Authorization": f"Bearer {jwt}"}
    token = client.post("/token/create", headers=headers).json["token"]
    assert client.post("/token/validate", json={"token": token}, headers=headers).status_code == 200
    assert client.post("/token/validate", json={"token": token}, headers=headers).status_code == 409


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_case_insensitive(client: FlaskClient, person: Person, scheme: str) -> None:
    """RFC 9110 section 11.1; login itself writes ``token_type`` in lower case."""
    jwt = person.headers["Authorization"].removeprefix("Bearer ")
    assert client.get("/auth/me", headers={"Authorization": f"{scheme} {jwt}"}).status_code == 200


@pytest.mark.parametrize("grant", [{}, {"grant_type": "password"}])
def test_the_oauth2_password_form_logs_in(
    client: FlaskClient, person: Person, grant: dict[str, str]
) -> None:
    """RFC 6749 section 4.3.2, with the additional fields that *Authorize* in the docs sends."""
    form = {"username": person.correo, "password": PASSWORD, "scope": "", "client_id": "", **grant}
    response = client.post("/auth/login", data=form)
    assert response.status_code == 200
    assert response.json["token_type"] == "bearer"
    assert claims_of(response.json["access_token"])["sub"] == person.id


def test_a_form_with_a_wrong_password_is_refused_as_json_is(
    client: FlaskClient, person: Person
) -> None:
    form = client.post("/auth/login", data={"username": person.correo, "password": "wrong one"})
    assert form.status_code == 401
    assert form.json["code"] == "invalid_credentials"


@pytest.mark.parametrize("spell", [str.upper, str.title, " {} ".format], ids=["A", "Aa", " a "])
def test_any_spelling_of_the_correo_logs_in(
    client: FlaskClient, person: Person, spell: Callable[[str], str]
) -> None:
    assert login(client, spell(person.correo)).status_code == 200


def test_a_taken_correo_is_refused_in_any_spelling(client: FlaskClient, person: Person) -> None:
    """S15. Red without the canonical form, or without the unique constraint."""
    for spelling in (person.correo, person.correo.upper(), f" {person.correo} "):
        response = register(client, correo=spelling)
        assert response.status_code == 409
        assert response.json["code"] == "email_taken"


def test_postgres_does_not_log_a_refused_registration(
    client: FlaskClient, person: Person, postgres: dev.Postgres
) -> None:
    """Guard: ``on_conflict_do_nothing``; an error is logged with its statement, hash and all."""
    # Before, other tests made queries fail, each of which is logged.
    before = postgres.log.stat().st_size
    assert register(client, correo=person.correo).status_code == 409
    text = postgres.log.read_bytes()[before:].decode()
    assert "$argon2" not in text
    assert person.correo not in text


def test_a_look_alike_is_another_account(client: FlaskClient) -> None:
    correo = new_correo().replace("person", "mike")
    other = correo.replace("i", "\N{LATIN SMALL LETTER DOTLESS I}", 1)
    first, second = register(client, correo=correo), register(client, correo=other)
    assert (first.status_code, second.status_code) == (201, 201)
    response = login(client, other)
    assert claims_of(response.json["access_token"])["sub"] == second.json["id"]


@pytest.mark.parametrize("field", ["id", "is_active", "is_admin", "created_at", "password_hash"])
def test_a_client_cannot_set_a_field_of_the_service(client: FlaskClient, field: str) -> None:
    """S38."""
    response = register(client, **{field: "1"})
    assert response.status_code == 422
    assert set(response.json["errors"]) == {field}


def test_of_two_simultaneous_registrations_one_succeeds(service: Service) -> None:
    """Red with a SELECT before the INSERT in place of the database's constraint."""
    for _ in range(4):
        account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}

        def attempt(_: int, account: dict[str, str] = account) -> httpx.Response:
            return httpx.post(f"{service.url}/auth/register", json=account, timeout=30)

        with ThreadPoolExecutor(2) as threads:
            responses = list(threads.map(attempt, range(2)))
        assert sorted(response.status_code for response in responses) == [201, 409]
        refused = next(response for response in responses if response.status_code == 409)
        assert refused.json()["code"] == "email_taken"


def test_unknown_wrong_and_disabled_get_the_same_response(app: Flask, client: FlaskClient) -> None:
    """S10. Red if ``login`` treats any of the three separately."""
    disabled = enrol(client.post)
    set_active(app, disabled.correo, False)
    known = enrol(client.post)
    seen = []
    for correo, password in (
        (new_correo(), PASSWORD),
        (known.correo, PASSWORD + "!"),
        (disabled.correo, PASSWORD),
        (disabled.correo, PASSWORD + "!"),
    ):
        response = login(client, correo, password)
        body = {name: value for name, value in response.json.items() if name != "request_id"}
        headers = {
            name: value
            for name, value in response.headers.items()
            if name not in {"X-Request-ID", "RateLimit"}
        }
        assert len(response.json["request_id"]) == 32
        seen.append((response.status_code, body, headers))
    assert seen[0][0] == 401
    assert seen[0][1]["code"] == "invalid_credentials"
    for other in seen[1:]:
        assert other == seen[0]


@pytest.mark.parametrize(
    "password",
    ["\u00b4EI>\u00e6N7", "u\u0308EI>NQ7", "\ufb03" * 100, "u\u0308" * 70],
    ids=["7 and 8", "8 and 7", "100 and 300", "140 and 70"],
)
def test_the_length_of_a_password_counts_as_sent_and_as_hashed(
    password: str, client: FlaskClient
) -> None:
    """Guard: ``fields.Password``. The OpenAPI document gives the length as sent."""
    refused = register(client, password=password)
    assert refused.status_code == 422
    assert set(refused.get_json()["errors"]) == {"password"}
    assert refused.get_json()["errors"]["password"] == ["Admite de 8 a 128 caracteres."]


def test_a_password_of_up_to_256_characters_is_checked_and_a_longer_one_refused(
    client: FlaskClient, person: Person
) -> None:
    assert login(client, person.correo, "x" * 256).status_code == 401
    assert login(client, person.correo, "x" * 257).status_code == 422


def test_login_rehashes_the_password_with_new_parameters(
    app: Flask, make_app: Callable[..., Flask]
) -> None:
    """S09. Red without ``rehash``; a failed login changes nothing."""
    person = enrol(client_of(app).post)
    before = stored_hash(app, person.correo)
    expensive = make_app(argon2_memory_kib=16)
    client = client_of(expensive)

    assert login(client, person.correo, PASSWORD + "!").status_code == 401
    assert stored_hash(app, person.correo) == before

    assert login(client, person.correo).status_code == 200
    after = stored_hash(app, person.correo)
    assert "$m=8," in before
    assert "$m=16," in after

    assert login(client, person.correo).status_code == 200
    assert stored_hash(app, person.correo) == after
    assert client.get("/auth/me", headers=person.headers).status_code == 200


def test_a_disabled_account_is_refused_until_it_is_enabled(
    app: Flask, make_app: Callable[..., Flask]
) -> None:
    """S17. Each app here is a worker without a cached caller."""
    person = enrol(client_of(app).post)
    set_active(app, person.correo, False)
    refused = client_of(make_app()).get("/auth/me", headers=person.headers)
    assert refused.status_code == 401
    assert refused.json["code"] == "access_token_invalid"

    set_active(app, person.correo, True)
    client = client_of(make_app())
    assert client.get("/auth/me", headers=person.headers).status_code == 200
    assert login(client, person.correo).status_code == 200


def test_the_jwt_of_a_deleted_account_is_refused(
    app: Flask, make_app: Callable[..., Flask]
) -> None:
    person = enrol(client_of(app).post)
    with app.app_context():
        db.session.delete(db.session.get_one(User, uuid.UUID(person.id)))
        db.session.commit()
    response = client_of(make_app()).get("/auth/me", headers=person.headers)
    assert response.status_code == 401
    assert response.json["code"] == "access_token_invalid"
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_a_jwt_of_another_key_is_refused(make_app: Callable[..., Flask], person: Person) -> None:
    stranger = make_app(secret_key=secrets.token_urlsafe(48))
    response = client_of(stranger).get("/auth/me", headers=person.headers)
    assert response.json["code"] == "access_token_invalid"


def test_no_response_holds_a_password_or_its_hash(client: FlaskClient) -> None:
    registered = register(client)
    logged_in = login(client, registered.json["correo"])
    for response in (registered, logged_in):
        assert PASSWORD not in response.text
        assert "argon2" not in response.text
