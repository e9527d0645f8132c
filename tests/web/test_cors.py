"""Which web pages may read the answers: those of the exact origins in the settings, no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.people import Person

ORIGIN, SECOND = "https://app.example.com", "http://localhost:5173"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
}


@pytest.fixture(scope="module")
def open_app(make_app: Callable[..., Flask], app: Flask) -> Flask:
    return make_app(cors_origins=(ORIGIN, SECOND))


@pytest.fixture
def browser(open_app: Flask) -> FlaskClient:
    return open_app.test_client()


def words(value: str | None) -> set[str]:
    return {word.strip().lower() for word in (value or "").split(",")}


@pytest.mark.parametrize("origin", [ORIGIN, SECOND])
def test_a_listed_origin_may_read(origin: str, browser: FlaskClient) -> None:
    answer = browser.get("/healthz", headers={"Origin": origin})
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    # Else a cache would hand one origin's answer to another.
    assert "origin" in words(answer.headers["Vary"])
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "*",
        "http://app.example.com",
        "https://app.example.com:444",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://appXexample.com",
        "https://sub.app.example.com",
        "https://evilapp.example.com",
        "https://app.example.com@evil.example",
        "https://app.example.com\u00e9",
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_any_other_origin_may_not(origin: str, method: str, browser: FlaskClient) -> None:
    """Guard: ``config.Origins`` keeps regular expressions out of Flask-CORS."""
    headers = {"Origin": origin, **(PREFLIGHT if method == "OPTIONS" else {})}
    answer = browser.open("/healthz", method=method, headers=headers)
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control-Allow-O")]


@pytest.mark.parametrize("path", ["/token/create", "/token/validate", "/auth/login", "/auth/me"])
def test_a_preflight_needs_no_token(path: str, browser: FlaskClient) -> None:
    """A browser sends no Authorization with it. Guard: OPTIONS in ``callers.authenticate``."""
    answer = browser.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "post" in words(answer.headers["Access-Control-Allow-Methods"])
    allowed = words(answer.headers["Access-Control-Allow-Headers"])
    assert allowed >= {"authorization", "content-type", "idempotency-key"}
    assert answer.headers["Access-Control-Max-Age"] == "600"


def test_a_preflight_is_not_limited(make_app: Callable[..., Flask], app: Flask) -> None:
    """It has no caller to be counted by, and the call that follows is counted."""
    limits = {"rate_limit_create": "1 per minute", "rate_limit_register": "1 per minute"}
    browser = make_app(cors_origins=(ORIGIN,), **limits).test_client()
    for path in ["/token/create", "/auth/register"] * 3:
        answer = browser.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
        assert answer.status_code == 200


def test_a_page_may_read_the_headers_that_it_needs(browser: FlaskClient, person: Person) -> None:
    headers = {"Origin": ORIGIN, **person.headers}
    answer = browser.post("/token/create", headers=headers)
    assert answer.status_code == 201
    exposed = words(answer.headers["Access-Control-Expose-Headers"])
    assert exposed == {"x-request-id", "ratelimit", "ratelimit-policy", "retry-after"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/token/create", 401), ("GET", "/nowhere", 404), ("GET", "/auth/login", 405)],
)
def test_a_page_may_read_refusals_too(
    method: str, path: str, status: int, browser: FlaskClient
) -> None:
    answer = browser.open(path, method=method, headers={"Origin": ORIGIN})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_by_default_no_origin_may_read(client: FlaskClient) -> None:
    for method in ("GET", "OPTIONS"):
        answer = client.open("/healthz", method=method, headers={"Origin": ORIGIN, **PREFLIGHT})
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
