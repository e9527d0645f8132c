"""CORS: only web pages of the exact origins in the settings may read responses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.people import Person

ORIGIN, SECOND = "https://app.example.com", "http://localhost:5173"
OTHERS = ("capacitor://localhost", "tauri://localhost", "http://[::1]:3000")
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
}


@pytest.fixture(scope="module")
def open_app(make_app: Callable[..., Flask], app: Flask) -> Flask:
    return make_app(cors_origins=(ORIGIN, SECOND, *OTHERS))


@pytest.fixture
def browser(open_app: Flask) -> FlaskClient:
    return open_app.test_client()


def words(value: str | None) -> set[str]:
    return {word.strip().lower() for word in (value or "").split(",")}


@pytest.mark.parametrize("origin", [ORIGIN, SECOND, *OTHERS])
def test_a_listed_origin_may_read(origin: str, browser: FlaskClient) -> None:
    response = browser.get("/healthz", headers={"Origin": origin})
    assert response.headers["Access-Control-Allow-Origin"] == origin
    # Otherwise a cache would serve one origin's response to another.
    assert "origin" in words(response.headers["Vary"])
    assert "Access-Control-Allow-Credentials" not in response.headers


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
        "capacitor://localhost:3000",
        "capacitorx://localhost",
        "tauri://localhost.evil.example",
        # As a regular expression, [::1] is a colon or a one.
        "http://::3000",
        "http://1:3000",
        "http://[::1]:30000",
        "http://[::2]:3000",
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_other_origin_may_read(origin: str, method: str, browser: FlaskClient) -> None:
    """Guards: ``fields.Origins`` and ``headers.exactly`` keep regular expressions out."""
    headers = {"Origin": origin, **(PREFLIGHT if method == "OPTIONS" else {})}
    response = browser.open("/healthz", method=method, headers=headers)
    assert not [name for name, _ in response.headers if name.startswith("Access-Control-Allow-O")]


@pytest.mark.parametrize("path", ["/token/create", "/token/validate", "/auth/login", "/auth/me"])
def test_a_preflight_needs_no_token(path: str, browser: FlaskClient) -> None:
    """A browser sends no Authorization with it. Guard: OPTIONS in ``callers.authenticate``."""
    response = browser.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "post" in words(response.headers["Access-Control-Allow-Methods"])
    allowed = words(response.headers["Access-Control-Allow-Headers"])
    assert allowed >= {"authorization", "content-type", "idempotency-key"}
    assert response.headers["Access-Control-Max-Age"] == "600"


def test_a_preflight_is_not_limited(make_app: Callable[..., Flask], app: Flask) -> None:
    """It has no caller to be counted by, and the call that follows is counted."""
    limits = {"rate_limit_create": "1 per minute", "rate_limit_register": "1 per minute"}
    browser = make_app(cors_origins=(ORIGIN,), **limits).test_client()
    for path in ["/token/create", "/auth/register"] * 3:
        response = browser.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
        assert response.status_code == 200


def test_a_page_may_read_the_headers_that_it_needs(browser: FlaskClient, person: Person) -> None:
    headers = {"Origin": ORIGIN, **person.headers}
    response = browser.post("/token/create", headers=headers)
    assert response.status_code == 201
    exposed = words(response.headers["Access-Control-Expose-Headers"])
    assert exposed == {"x-request-id", "ratelimit", "ratelimit-policy", "retry-after"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/token/create", 401), ("GET", "/nowhere", 404), ("GET", "/auth/login", 405)],
)
def test_a_page_may_read_refusals_too(
    method: str, path: str, status: int, browser: FlaskClient
) -> None:
    response = browser.open(path, method=method, headers={"Origin": ORIGIN})
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("origin", [ORIGIN, SECOND, None])
@pytest.mark.parametrize("listed", [(ORIGIN,), (ORIGIN, "https://b.example")])
@pytest.mark.parametrize("path", ["/healthz", "/docs/assets/swagger-ui.css", "/nowhere"])
def test_every_response_varies_by_origin(
    origin: str | None, listed: tuple[str, ...], path: str, make_app: Callable[..., Flask]
) -> None:
    """Also one without CORS headers, which a cache would else serve to a page of the origin.

    Guard: ``headers.vary_by_origin``. Flask-CORS adds it for several origins alone.
    """
    headers = {"Origin": origin} if origin else {}
    with make_app(cors_origins=listed).test_client().get(path, headers=headers) as response:
        assert "origin" in words(response.headers["Vary"])
        allowed = response.headers.getlist("Access-Control-Allow-Origin")
        assert allowed == ([ORIGIN] if origin == ORIGIN else [])


@pytest.mark.parametrize("path", ["/nowhere", "/token/x/y", "/static/nothing"])
def test_a_page_may_read_that_a_path_does_not_exist(path: str, browser: FlaskClient) -> None:
    """A preflight with a 404 would be a network error. Guard: ``headers.allow_preflight``."""
    preflight = browser.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    response = browser.post(path, headers={"Origin": ORIGIN}, json={})
    assert response.status_code in {404, 405}
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert browser.options("/nowhere", headers={"Origin": ORIGIN}).status_code == 404


def test_by_default_no_origin_may_read(client: FlaskClient) -> None:
    for method in ("GET", "OPTIONS"):
        response = client.open("/healthz", method=method, headers={"Origin": ORIGIN, **PREFLIGHT})
        assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
