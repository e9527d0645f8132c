"""Problems: the common shape of every error of the API."""

from __future__ import annotations

import json
from typing import Any

import httpx
from werkzeug.test import TestResponse

from tests.stage.catalogue import PROBLEMS
from tokenservice.web import texts
from tokenservice.web.headers import SECURITY_HEADERS


def problem_in(
    response: TestResponse | httpx.Response, status: int | None = None, code: str | None = None
) -> dict[str, Any]:
    """Check a response against the contract of an error; return its body."""
    assert response.status_code == (status or response.status_code)
    assert response.status_code >= 400
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(response.text)
    assert body["status"] == response.status_code
    assert body["code"] in PROBLEMS
    assert body["code"] == (code or body["code"])
    assert body["type"] == f"/problems/{body['code']}"
    assert body["title"]
    assert body["detail"]
    own = PROBLEMS[body["code"]].members
    assert body.keys() - {"type", "title", "status", "detail", "code", "request_id"} <= {
        *own,
        *(["errors"] if body["code"] == "validation_failed" else []),
    }
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert response.headers["Content-Language"] in texts.LANGUAGES
    assert "Accept-Language" in response.headers["Vary"]
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    for leak in ("Traceback", "psycopg", "sqlalchemy", "redis", "SELECT ", "tokenservice/"):
        assert leak not in response.text or leak in (body["title"] + body["detail"]).lower()
    return body


def refusal_of_field(response: TestResponse, field: str) -> None:
    assert set(problem_in(response, 422, "validation_failed")["errors"]) == {field}


def token_problem(response: TestResponse) -> dict[str, Any]:
    """The refusal of an unknown token, without the id of the request."""
    problem = problem_in(response, 404, "token_unknown")
    del problem["request_id"]
    return problem


def assert_out(response: TestResponse | httpx.Response, *codes: str) -> None:
    """Check a 401 problem and its challenge, which names the token if one was read (RFC 6750)."""
    assert response.status_code == 401, response.text
    assert response.headers["Content-Type"].startswith("application/problem+json")
    body = response.json() if callable(response.json) else response.json
    assert body is not None
    assert body["code"] in (codes or ("access_token_invalid", "access_token_expired"))
    challenge = "Bearer" if body["code"] == "not_authenticated" else 'Bearer error="invalid_token"'
    assert response.headers["WWW-Authenticate"] == challenge
