"""Headers of requests and of responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.stage.people import PASSWORD, Person
from tests.stage.problems import problem_in
from tokenservice.web.headers import SECURITY_HEADERS


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-ID": "a" * 129},
        {"X-Request-ID": "a\tb"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-00"},
        {"traceparent": "\xff"},
        {"Accept-Language": ";q=,,\xff=;;" * 100},
        {"Accept": "text/html"},
        {"Origin": "https://evil.example"},
        {"X-Forwarded-For": "unknown, 1.2.3.4:5"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"Cookie": "access_token_cookie=x; =;;\xff"},
        {"Host": "evil.example"},
        {"Idempotency-Key": "\xff" * 300},
        {"Content-Encoding": "gzip"},
        {"Range": "bytes=9-1"},
        {"If-Match": "x"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_odd_headers_change_nothing(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.post("/auth/register", json={}, headers=headers)
    problem_in(response, 422, "validation_failed")
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "evil" not in response.text


def test_an_address_that_a_proxy_garbles_is_no_error(make_app: Callable[..., Flask]) -> None:
    behind_proxy = make_app(trusted_proxies=1, rate_limit_register="100 per minute").test_client()
    for garbled in ("unknown", "1.2.3.4:5678", "[::1]:80", "fe80::1%eth0", "\xff"):
        headers = {"X-Forwarded-For": garbled}
        problem_in(behind_proxy.post("/auth/register", json={}, headers=headers), 422)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/readyz",
        "/docs",
        "/openapi.json",
        "/problems/busy",
        "/nowhere",
        "/auth/me",
    ],
)
def test_every_response_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    """S34, S50. Red without ``headers.secure``; a page has a policy of its own."""
    response = client.get(path)
    for name in SECURITY_HEADERS:
        assert response.headers[name]
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Request-ID"]


def test_no_response_with_a_token_is_cacheable(client: FlaskClient, person: Person) -> None:
    """S34."""

    def call(path: str, **body: Any) -> TestResponse:
        return client.post(path, json=body, headers=person.headers)

    login = call("/auth/login", correo=person.correo, password=PASSWORD)
    batch = call("/token/batch", count=2)
    created = call("/token/create")
    validated = call("/token/validate", token=created.json["token"])
    reserved = call("/token/reserve", token=batch.json["tokens"][0]["token"])
    committed = call("/token/commit", reservation=reserved.json["reservation"])
    for response in (login, batch, created, validated, reserved, committed):
        assert response.status_code < 300
        assert response.headers["Cache-Control"] == "no-store"
