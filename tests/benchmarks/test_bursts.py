"""Calls at once, and the accounts that make them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from benchmarks import bursts, people
from benchmarks.servers import Measured
from config import Config
from tests.benchmarks.rows import row

ALL = 12


class Barrier(ThreadingHTTPServer):
    """Responds once ``ALL`` requests are there, with 200 to the first address and 429 to others."""

    request_queue_size = ALL
    together = threading.Barrier(ALL, timeout=20)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Barrier.together.wait()
        right = body["password"] == "right" and self.client_address[0] == "127.0.1.1"
        self.send_response(200 if right else 429)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with Barrier(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("addresses", "succeeded"), [(1, ALL), (3, ALL // 3)])
def test_all_are_sent_at_once_from_so_many_addresses(
    port: int, addresses: int, succeeded: int
) -> None:
    """The server responds to none until it has all."""
    requests = [bursts.message({"correo": "ana@example.com", "password": "right"})] * ALL
    statuses, seconds = asyncio.run(bursts.sent(port, requests, addresses))
    assert sorted(statuses) == ["200"] * succeeded + ["429"] * (ALL - succeeded)
    assert seconds < 20


def test_a_server_that_is_not_there_is_counted_too() -> None:
    statuses, _ = asyncio.run(bursts.sent(1, [b"x"], 1))
    assert statuses == ["ConnectionRefusedError"]


def test_shares_of_an_overload() -> None:
    rows = [
        row(1, "overload", "peak", requests=1000),
        row(1, "overload", "times 3", requests=3000, timely=800, busy=1900, failed=100),
    ]
    assert bursts.timely(rows, "overload", "times 3") == [0.8]
    assert bursts.late(rows[1]) == 200


def test_the_generator_is_named_where_it_may_be_the_limit() -> None:
    assert bursts.generator([row(1, "a", wrk_cpu=0.3)]) == "30% of a core"
    assert bursts.generator([row(1, "a", wrk_cpu=0.9)]) == "90% of a core, the limit"


@pytest.mark.slow
def test_copied_accounts_call_with_their_jwts_and_log_in(
    client: FlaskClient, config: Config, tmp_path: Path
) -> None:
    environment = {
        "database_url": config.database_url,
        "redis_url": config.redis_url,
        "secret_key": config.secret_key,
    }
    server = Measured(tmp_path, {name: str(value) for name, value in environment.items()})
    assert (
        client.post("/auth/register", json={"nombre": "Ana", **server.account}).status_code == 201
    )
    jwts = people.mint(server, 3)
    seen = [
        client.get("/auth/me", headers={"Authorization": f"Bearer {jwt}"}).get_json()["correo"]
        for jwt in jwts
    ]
    assert sorted(seen) == people.seed(server, 3)
    login = {"correo": seen[0], "password": server.account["password"]}
    assert client.post("/auth/login", json=login).status_code == 200
    people.keep(jwts, tmp_path / "jwts")
    assert (tmp_path / "jwts").read_text().split() == jwts
    assert (tmp_path / "jwts").stat().st_mode & 0o077 == 0
