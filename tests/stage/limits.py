"""Rate limits: their defaults, the calls that they count, and the responses."""

from __future__ import annotations

import re
from typing import Any

import httpx
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

WRONG = "not the password of anyone"
DEFAULTS = {
    "rate_limit_register": "5 per minute",
    "rate_limit_login": "5 per minute",
    "rate_limit_create": "60 per minute",
    "rate_limit_validate": "600 per minute",
}


def log_in(
    client: FlaskClient, correo: str, password: str, address: str = "127.0.0.1", **more: Any
) -> TestResponse:
    return client.post(
        "/auth/login",
        json={"correo": correo, "password": password},
        environ_overrides={"REMOTE_ADDR": address},
        **more,
    )


def fields(response: TestResponse | httpx.Response) -> tuple[str, int, int, int, int]:
    """Take the two header fields apart: name, quota, window, remaining, seconds left."""
    policy = re.fullmatch(r'"([a-z-]+)";q=(\d+);w=(\d+)', response.headers["RateLimit-Policy"])
    state = re.fullmatch(r'"([a-z-]+)";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert policy
    assert state
    assert policy[1] == state[1]
    return policy[1], int(policy[2]), int(policy[3]), int(state[2]), int(state[3])


def assert_limited(response: TestResponse | httpx.Response, name: str) -> None:
    assert response.status_code == 429
    assert response.headers["Content-Type"].startswith("application/problem+json")
    body = response.json() if callable(response.json) else response.json
    assert body is not None
    assert body["code"] == "rate_limited"
    limit, _, window, remaining, left = fields(response)
    assert (limit, remaining) == (name, 0)
    assert 1 <= left <= window
    assert response.headers["Retry-After"] == str(left)


def statuses(responses: list[TestResponse]) -> list[int]:
    return [response.status_code for response in responses]


def register_from(client: FlaskClient, address: str, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(
        "/auth/register", json={}, headers=names, environ_overrides={"REMOTE_ADDR": address}
    ).status_code
