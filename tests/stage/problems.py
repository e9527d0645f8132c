"""Problems: what every error of the API has in common."""

from __future__ import annotations

import json
from typing import Any

import httpx
from werkzeug.test import TestResponse

from tests.stage.catalogue import PROBLEMS
from tokenservice.web import texts
from tokenservice.web.headers import SECURITY_HEADERS


def problem_in(
    answer: TestResponse | httpx.Response, status: int | None = None, code: str | None = None
) -> dict[str, Any]:
    """Hold an answer to everything that the contract says of an error."""
    assert answer.status_code == (status or answer.status_code)
    assert answer.status_code >= 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.text)
    assert body["status"] == answer.status_code
    assert body["code"] in PROBLEMS
    assert body["code"] == (code or body["code"])
    assert body["type"] == f"/problems/{body['code']}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Content-Language"] in texts.LANGUAGES
    assert "Accept-Language" in answer.headers["Vary"]
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for leak in ("Traceback", "psycopg", "sqlalchemy", "redis", "SELECT ", "tokenservice/"):
        assert leak not in answer.text or leak in (body["title"] + body["detail"]).lower()
    return body


def refusal_of_field(answer: TestResponse, field: str) -> None:
    assert set(problem_in(answer, 422, "validation_failed")["errors"]) == {field}


def token_problem(answer: TestResponse) -> dict[str, Any]:
    """A refusal of a token that is unknown, but for the id of the request."""
    problem = problem_in(answer, 404, "token_unknown")
    del problem["request_id"]
    return problem


def assert_out(answer: TestResponse | httpx.Response, *codes: str) -> None:
    """A 401 problem that challenges, and blames the token only if it read one (RFC 6750)."""
    assert answer.status_code == 401, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body = answer.json() if callable(answer.json) else answer.json
    assert body is not None
    assert body["code"] in (codes or ("access_token_invalid", "access_token_expired"))
    challenge = "Bearer" if body["code"] == "not_authenticated" else 'Bearer error="invalid_token"'
    assert answer.headers["WWW-Authenticate"] == challenge
