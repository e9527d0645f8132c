"""The 401 of an unauthenticated call, and its challenge."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.forge import encoded
from tests.stage.people import PASSWORD, new_correo
from tests.stage.problems import problem_in
from tests.stage.routes import protected_routes


@pytest.mark.parametrize(
    "credentials", [None, "", "Basic YTpi", "Digest x", "Token x", "x"], ids=repr
)
def test_every_protected_route_requires_a_token(
    app: Flask, client: FlaskClient, credentials: str | None
) -> None:
    """S26, RFC 6750 section 3: without a token the challenge names no error."""
    headers = {} if credentials is None else {"Authorization": credentials}
    for method, path in protected_routes(app):
        response = client.open(path, method=method, headers=headers)
        problem_in(response, 401, "not_authenticated")
        assert response.headers.getlist("WWW-Authenticate") == ["Bearer"]


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        "..",
        "." * 100,
        "\xe9\xff",
        "a b c",
        encoded(b"[" * 3_000) + ".e30.x",
        encoded(b'{"alg":"HS256"}') + "." + encoded(b"[" * 3_000) + ".x",
        encoded(b'{"alg":' + b"9" * 4_900 + b"}") + ".e30.x",
        encoded(b'{"alg":NaN}') + ".e30.x",
        encoded(b'{"alg":["HS256"]}') + ".e30.x",
        encoded(b'{"alg":"none"}') + ".e30.",
        encoded(b"null") + ".e30.x",
        encoded(b"\xff\xfe") + ".e30.x",
        encoded(b'{"alg":"HS256","kid":{}}') + ".e30.x",
        encoded(b'{"alg":"HS256","crit":["b64"],"b64":false}') + ".e30.x",
    ],
    ids=lambda token: repr(token[:20]),
)
def test_every_protected_route_refuses_a_bad_token(
    app: Flask, client: FlaskClient, token: str
) -> None:
    for method, path in protected_routes(app):
        response = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
        problem_in(response, 401, "access_token_invalid")
        assert response.headers.getlist("WWW-Authenticate") == ['Bearer error="invalid_token"']


def test_the_word_bearer_alone_is_no_token(client: FlaskClient) -> None:
    response = client.get("/auth/me", headers={"Authorization": "Bearer"})
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_failed_login_is_a_401_like_any_other(client: FlaskClient) -> None:
    account = {"correo": new_correo(), "password": PASSWORD}
    response = client.post("/auth/login", json=account)
    problem_in(response, 401, "invalid_credentials")
    assert response.headers["WWW-Authenticate"] == "Bearer"
