"""Standard clients: tokens for a service key, its revocation, and the metadata, as the RFCs say."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from config import Config
from tests.stage.forge import Forge
from tests.stage.keys import basic, bearer, new_key
from tests.stage.people import Person
from tests.stage.problems import problem_in
from tests.stage.sessions import Login
from tests.stage.waiting import until
from tests.stage.wire import FORM
from tokenservice.auth.refresh_tokens import RefreshTokens
from tokenservice.auth.rights import SCOPES, KeyText
from tokenservice.extensions import db

GRANT = {"grant_type": "client_credentials"}
METADATA = "/.well-known/oauth-authorization-server"


def ask(client: FlaskClient, headers: dict[str, str] | None = None, **form: str) -> TestResponse:
    return client.post("/auth/token", data={**GRANT, **form}, headers=headers)


def error_of(response: TestResponse, status: int = 400) -> str:
    """Check an error against RFC 6749 section 5.2, and return its name."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert set(body) == {"error", "error_description"}
    assert body["error_description"].isascii()
    challenges = response.headers.getlist("WWW-Authenticate")
    assert challenges == (['Basic realm="token-service"'] if status == 401 else [])
    return str(body["error"])


def claims_of(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@pytest.fixture
def made(client: FlaskClient, person: Person) -> dict[str, Any]:
    return new_key(client.post, person, scopes=["token:create", "token:read"])


def test_a_key_gets_a_jwt_in_each_of_the_standard_ways(
    client: FlaskClient, made: dict[str, Any], person: Person
) -> None:
    """RFC 6749 sections 2.3.1 and 4.4."""
    for response in (
        ask(client, basic(made["id"], made["key"])),
        # Encoded (section 2.3.1), as openid-client does, and each character may be.
        ask(client, basic(made["id"], made["key"].replace("_", "%5F"))),
        ask(client, basic(*("".join(f"%{ord(c):02x}" for c in made[n]) for n in ("id", "key")))),
        ask(client, client_id=made["id"], client_secret=made["key"]),
        ask(client, client_secret=made["key"]),
        ask(client, basic(made["id"], made["key"]), scope=""),
    ):
        assert response.status_code == 200, response.text
        assert response.headers["Cache-Control"] == "no-store"
        body = response.get_json()
        assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
        assert body["scope"] == "token:create token:read"
        claims = claims_of(body["access_token"])
        assert (claims["sub"], claims["key"]) == (person.id, made["id"])
        assert claims["exp"] - claims["iat"] == 900
        created = client.post("/token/create", headers=bearer(body["access_token"]))
        assert created.status_code == 201


def test_a_jwt_of_a_key_may_do_what_it_asked_for_and_no_more(
    client: FlaskClient, made: dict[str, Any]
) -> None:
    """Guards: ``scope`` in ``Key.of``, and ``demand_scope`` in ``authenticate``."""
    both = ask(client, client_secret=made["key"]).get_json()["access_token"]
    less = ask(client, client_secret=made["key"], scope="token:read").get_json()["access_token"]
    assert client.get("/token", headers=bearer(less)).status_code == 200
    refused = client.post("/token/create", headers=bearer(less))
    problem_in(refused, 403, "insufficient_scope")
    assert client.post("/token/create", headers=bearer(both)).status_code == 201
    for jwt in (both, less):
        problem_in(client.get("/auth/me", headers=bearer(jwt)), 403, "insufficient_scope")
        problem_in(client.post("/auth/keys", headers=bearer(jwt)), 403, "insufficient_scope")


def test_a_jwt_of_a_key_is_no_jwt_to_the_release_before(
    client: FlaskClient, made: dict[str, Any]
) -> None:
    """It knows no scopes, and would take the key for the person. Guard: ``jwts.OF_KEY``."""
    jwt = ask(client, client_secret=made["key"]).get_json()["access_token"]
    assert claims_of(jwt)["type"] != "access"


def test_a_revoked_key_ends_its_jwts(
    client: FlaskClient, made: dict[str, Any], person: Person
) -> None:
    jwt = ask(client, client_secret=made["key"]).get_json()["access_token"]
    assert client.get("/token", headers=bearer(jwt)).status_code == 200
    client.delete(f"/auth/keys/{made['id']}", headers=person.headers)
    until(lambda: client.get("/token", headers=bearer(jwt)).status_code == 401, seconds=3)
    problem_in(client.get("/token", headers=bearer(jwt)), 401, "key_invalid")
    assert error_of(ask(client, client_secret=made["key"]), 401) == "invalid_client"


def test_a_jwt_of_a_key_with_networks_holds_there_alone(
    client: FlaskClient, person: Person
) -> None:
    key = new_key(client.post, person, cidrs=["192.0.2.0/24"])["key"]
    inside = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    form = {**GRANT, "client_secret": key}
    assert error_of(client.post("/auth/token", data=form), 401) == "invalid_client"
    jwt = client.post("/auth/token", data=form, **inside).get_json()["access_token"]
    assert client.get("/token", headers=bearer(jwt), **inside).status_code == 200
    problem_in(client.get("/token", headers=bearer(jwt)), 401, "key_invalid")
    assert client.get("/token", headers=bearer(jwt), **inside).status_code == 200


def test_each_error_is_one_of_the_standard(
    app: Flask, client: FlaskClient, made: dict[str, Any], person: Person
) -> None:
    key, key_id = made["key"], made["id"]
    right = basic(key_id, key)

    def send(headers: dict[str, str], data: Any, **more: Any) -> TestResponse:
        return client.post("/auth/token", data=data, headers=headers, **more)

    assert error_of(ask(client), 401) == "invalid_client"
    assert error_of(ask(client, client_id=key_id), 401) == "invalid_client"
    for wrong in (
        basic(key_id, str(KeyText.new())),
        basic("x" * 18, key),
        basic(key_id, "x"),
        basic(key_id, "%"),
        basic(key_id, "%00%ff"),
        basic(key_id, key.replace("_", "%255F")),
        basic(key_id, ""),
        basic("", key),
        bearer(key),
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic"},
        person.headers,
    ):
        assert error_of(ask(client, wrong), 401) == "invalid_client", wrong
    assert error_of(ask(client, right, client_secret=key)) == "invalid_request"
    other = ask(client, client_id="x" * 18, client_secret=key)
    assert error_of(other, 401) == "invalid_client"
    assert error_of(send(right, {})) == "invalid_request"
    for grant in ("password", "authorization_code", "x"):
        assert error_of(send(right, {"grant_type": grant})) == "unsupported_grant_type"
    for scope in ("token:revoke", "token:create  token:read", "x", " "):
        assert error_of(ask(client, right, scope=scope)) == "invalid_scope", scope
    twice = "grant_type=client_credentials&grant_type=client_credentials"
    assert error_of(send(right, twice, content_type=FORM)) == "invalid_request"
    as_json = client.post("/auth/token", json=GRANT, headers=right)
    assert error_of(as_json) == "invalid_request"
    with app.app_context(), db.engine.begin() as connection:
        disable = text("UPDATE users SET is_active = false WHERE id = :id")
        connection.execute(disable, {"id": person.id})
    until(lambda: ask(client, right).status_code == 401, seconds=3)
    assert error_of(ask(client, right), 401) == "invalid_client"


def test_what_is_refused_before_the_standard_is_a_problem(
    limited: Callable[..., FlaskClient], client: FlaskClient
) -> None:
    """A limit by address, for strangers try keys here."""
    problem_in(client.get("/auth/token"), 405, "method_not_allowed")
    large = client.post("/auth/token", data=b"a=" + b"x" * 20_000, content_type=FORM)
    problem_in(large, 413, "payload_too_large")
    strict = limited(rate_limit_validate="2 per hour")
    assert [ask(strict).status_code for _ in range(3)] == [401, 401, 429]
    problem_in(strict.post("/auth/revoke", data={"token": "x"}), 429, "rate_limited")


FORGERIES: dict[str, dict[str, Any]] = {
    "a key in a person's": {"key": "0" * 18, "type": "key"},
    "no scope": {"scope": ""},
    "a scope that is a list": {"scope": ["token:create"]},
    "no key": {"key": None},
    "a key that is none": {"key": "' OR 1=1 --"},
    "a key that is a list": {"key": ["0" * 18]},
    "another type": {"type": "refresh"},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_claims_that_are_not_well_formed_are_refused(
    client: FlaskClient, made: dict[str, Any], person: Person, config: Config, name: str
) -> None:
    """Also with the right key of the service. Guard: ``jwts.names_key``."""
    jwt = ask(client, client_secret=made["key"]).get_json()["access_token"]
    if "person" in name:
        jwt = person.headers["Authorization"].removeprefix("Bearer ")
    forged = Forge(jwt, config.secret_key).claiming(**FORGERIES[name])
    response = client.get("/token", headers=bearer(forged))
    problem_in(response, 401, "access_token_invalid")


def test_a_jwt_asks_for_no_scope_that_its_key_lacks(
    client: FlaskClient, made: dict[str, Any], config: Config
) -> None:
    """Guard: the intersection in ``Key.of``."""
    jwt = ask(client, client_secret=made["key"]).get_json()["access_token"]
    more = Forge(jwt, config.secret_key).claiming(scope=" ".join(SCOPES))
    assert client.get("/token", headers=bearer(more)).status_code == 200
    refused = client.post("/token/revoke", json={"token": "x"}, headers=bearer(more))
    problem_in(refused, 403, "insufficient_scope")


def revoke(client: FlaskClient, token: str, headers: dict[str, str] | None = None) -> TestResponse:
    form = {"token": token, "token_type_hint": "refresh_token"}
    return client.post("/auth/revoke", data=form, headers=headers)


def test_a_key_is_revoked_by_its_text(client: FlaskClient, person: Person) -> None:
    """RFC 7009: with or without the credentials of a client, and 200 also again."""
    for with_credentials in (False, True):
        made = new_key(client.post, person)
        credentials = basic(made["id"], made["key"]) if with_credentials else None
        assert client.get("/token", headers=bearer(made["key"])).status_code == 200
        assert revoke(client, made["key"], credentials).status_code == 200
        key = bearer(made["key"])
        until(lambda key=key: client.get("/token", headers=key).status_code == 401, seconds=3)
        assert revoke(client, made["key"]).status_code == 200
    assert client.get("/auth/keys", headers=person.headers).get_json() == {"items": []}


def test_a_session_is_ended_by_its_refresh_token(client: FlaskClient, person: Person) -> None:
    """Also by one that was spent. Guard: the MAC, without which a made-up one would end any."""
    for spent in (False, True):
        first = Login.of(client.post, person)
        last = first.refresh() if spent else first
        made_up = str(RefreshTokens(["x" * 32]).first(uuid.UUID(first.id)))
        for unknown in (made_up, "osr_x"):
            response = revoke(client, unknown)
            assert (response.status_code, response.get_json()) == (200, {})
        last = last.refresh()
        assert last.status() == 201
        for _ in range(2):
            response = revoke(client, first.refresh_token if spent else last.refresh_token)
            assert (response.status_code, response.get_json()) == (200, {})
            problem_in(last.present(), 401, "session_ended")
        until(lambda last=last: last.status() == 401, seconds=3)


def test_what_is_unknown_is_revoked_already(client: FlaskClient, made: dict[str, Any]) -> None:
    """RFC 7009 section 2.2. Nothing that is not the whole text of a key ends it."""
    key = KeyText.parse(made["key"])
    for unknown in (
        "x",
        "a.b.c",
        str(KeyText.new()),
        made["key"][:-1],
        made["id"],
        str(KeyText(key.id, KeyText.new().secret)),
    ):
        response = revoke(client, unknown)
        assert (response.status_code, response.get_json()) == (200, {})
    assert client.get("/token", headers=bearer(made["key"])).status_code == 200


def test_a_revocation_that_cannot_be_is_refused(
    client: FlaskClient, made: dict[str, Any], person: Person
) -> None:
    """A 200 for a JWT would be a lie: it holds until its key ends."""
    jwt = ask(client, client_secret=made["key"]).get_json()["access_token"]
    assert error_of(revoke(client, jwt)) == "unsupported_token_type"
    people = person.headers["Authorization"].removeprefix("Bearer ")
    assert error_of(revoke(client, people)) == "unsupported_token_type"
    assert error_of(client.post("/auth/revoke", data={})) == "invalid_request"
    wrong = basic(made["id"], str(KeyText.new()))
    assert error_of(revoke(client, made["key"], wrong), 401) == "invalid_client"
    assert client.get("/token", headers=bearer(made["key"])).status_code == 200


def test_the_metadata_are_those_of_the_setting(
    app: Flask, make_app: Callable[..., Flask], client: FlaskClient
) -> None:
    """RFC 8414. Never made from Host."""
    problem_in(client.get(METADATA), 404, "not_found")
    url = "https://tokens.example.com/api"
    own = make_app(public_url=url).test_client()
    response = own.get(METADATA, headers={"Host": "evil.example"})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    found = response.get_json()
    assert found["issuer"] == url
    assert found["token_endpoint"] == f"{url}/auth/token"
    assert found["revocation_endpoint"] == f"{url}/auth/revoke"
    assert found["grant_types_supported"] == ["client_credentials"]
    assert found["scopes_supported"] == list(SCOPES)
    assert found["response_types_supported"] == ["none"]
    assert [] not in found.values()
    assert found["service_documentation"] == f"{url}/docs"
    assert "evil" not in response.text
    for name in ("token_endpoint", "revocation_endpoint"):
        assert own.post(found[name].removeprefix(url)).status_code in (400, 401)
    quiet = make_app(public_url=url, docs_enabled=False).test_client()
    assert "service_documentation" not in quiet.get(METADATA).get_json()
