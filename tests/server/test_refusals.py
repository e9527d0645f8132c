"""Requests that are refused before the app sees them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.stage.people import enrol
from tests.stage.problems import problem_in
from tests.stage.service import Service
from tests.stage.wire import JSON, head, raw, read

CANARY = "canary7f3a"


def test_the_server_header_has_no_version(service: Service) -> None:
    """S50."""
    assert httpx.get(f"{service.url}/healthz").headers["Server"] == "gunicorn"


@pytest.mark.parametrize(
    ("status", "sent"),
    [(414, {"params": {"cursor": "a" * 5_000}}), (431, {"headers": {"X-Long": "a" * 10_000}})],
)
def test_a_request_too_long_for_gunicorn_is_a_bad_request(
    status: int, sent: dict[str, Any], service: Service
) -> None:
    response = httpx.get(f"{service.url}/token", **sent)
    assert (response.status_code, response.json()["code"]) == (status, "bad_request")


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("GET /healthz HTTP/1.1", "X-Long: " + CANARY * 900),
        head("GET /" + CANARY * 900 + " HTTP/1.1"),
        head("GET /healthz HTTP/1.1", *(f"X-{number}: 1" for number in range(200))),
        (CANARY + "\r\n\r\n").encode(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n",
        head("GET /healthz HTTP/9.9"),
        head("GET /healthz HTTP/1.1", f"{CANARY} x: 1"),
        head("POST /auth/login HTTP/1.1", "Content-Length: -1"),
        head("POST /auth/login HTTP/1.1", "Content-Length: 1_0"),
        head("POST /auth/login HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
        head("POST /auth/login HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked"),
        head("POST /auth/login HTTP/1.1", "Transfer-Encoding: chunked, chunked"),
        head("POST /auth/login HTTP/1.1", f"Transfer-Encoding: {CANARY}"),
    ],
    ids=[
        "a 9 KB header",
        "a 9 KB address",
        "200 headers",
        "garbage",
        "TLS",
        "HTTP/9.9",
        "a space in a name",
        "a negative length",
        "an underscore in a length",
        "two lengths",
        "a length and chunks",
        "chunks twice",
        "an unknown coding",
    ],
)
def test_malformed_http_is_refused_and_the_connection_closed(
    service: Service, request_bytes: bytes
) -> None:
    """S42, S44: gunicorn refuses these before the app, once, with a 4xx and no version.

    Guard: ``refusals.refusal``. gunicorn's own are HTML, repeat the request, and are a 501 for an
    unknown coding.
    """
    received = raw(service, request_bytes)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"gunicorn/" not in received
    assert CANARY.encode() not in received
    refusal = read(received)
    assert refusal.status_code < 500
    problem_in(refusal)
    assert refusal.headers["Connection"] == "close"
    assert httpx.get(f"{service.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}XX0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}\r\n"),
        (["Content-Length: 30"], b"{}"),
        (["Content-Length: 30"], b""),
    ],
    ids=["no size", "no end", "a bad trailer", "cut chunks", "a cut body", "a lost body"],
)
def test_an_incomplete_body_is_refused(service: Service, fields: list[str], body: bytes) -> None:
    """S44, RFC 9112 section 8. Guard: ``CutBody`` in framing.py; else no response, or a token."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        person = enrol(http.post)
    credentials = f"Authorization: {person.headers['Authorization']}"
    lines = ["POST /token/create HTTP/1.1", f"Content-Type: {JSON}", credentials, *fields]
    problem_in(read(raw(service, head(*lines) + body)), 400, "bad_request")
