"""The 401 of a call without a caller, and its challenge."""

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
def test_without_a_token_every_guarded_route_asks_for_one(
    app: Flask, client: FlaskClient, credentials: str | None
) -> None:
    """S26, RFC 6750 section 3: no error is named where no token was sent."""
    headers = {} if credentials is None else {"Authorization": credentials}
    for method, path in protected_routes(app):
        answer = client.open(path, method=method, headers=headers)
        problem_in(answer, 401, "not_authenticated")
        assert answer.headers.getlist("WWW-Authenticate") == ["Bearer"]


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
def test_with_a_bad_token_every_guarded_route_says_so(
    app: Flask, client: FlaskClient, token: str
) -> None:
    for method, path in protected_routes(app):
        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
        problem_in(answer, 401, "access_token_invalid")
        assert answer.headers.getlist("WWW-Authenticate") == ['Bearer error="invalid_token"']


def test_the_word_bearer_alone_is_no_token(client: FlaskClient) -> None:
    answer = client.get("/auth/me", headers={"Authorization": "Bearer"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_failed_login_is_a_401_like_any_other(client: FlaskClient) -> None:
    account = {"correo": new_correo(), "password": PASSWORD}
    answer = client.post("/auth/login", json=account)
    problem_in(answer, 401, "invalid_credentials")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
