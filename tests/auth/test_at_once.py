"""Calls that need a hash, several of them at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.stage.people import PASSWORD, new_correo
from tests.stage.service import Service


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="half of a worker's threads may wait for a hash; a queue bounded by time will mend it",
)
def test_eight_registrations_and_eight_logins_at_once_succeed(
    serve: Callable[..., Service],
) -> None:
    """By one worker with its default threads and the default cost of a hash."""
    with serve(web_concurrency=1) as service, httpx.Client(base_url=service.url) as http:
        accounts = [
            {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD} for _ in range(8)
        ]
        ready = threading.Barrier(len(accounts))

        def call(path: str, account: dict[str, str]) -> int:
            ready.wait(10)
            return http.post(path, json=account, timeout=30).status_code

        statuses = []
        with ThreadPoolExecutor(len(accounts)) as callers:
            for path in ("/auth/register", "/auth/login"):
                bodies = [
                    {k: v for k, v in one.items() if path == "/auth/register" or k != "nombre"}
                    for one in accounts
                ]
                statuses += callers.map(call, [path] * len(bodies), bodies)
        assert statuses == [201] * 8 + [200] * 8
