"""``make bench``: the service against its floor, on throw-away servers; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from benchmarks import load, report
from tokenservice import local
from tokenservice.local.__main__ import Service, flask
from tokenservice.local.server import free_port

NEVER_HIT = "100000000 per minute"


class Floor(Service):
    name = "floor"

    def command(self) -> list[str]:
        return [*super().command(), "benchmarks.floor:app"]


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every "with" ends
    with contextlib.ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        postgres = running.enter_context(local.Postgres(directory, durable=False))
        redis_server = running.enter_context(local.Redis(directory, settings={"maxmemory": "2gb"}))
        environment = {
            "PATH": os.environ["PATH"],
            "GUNICORN_CMD_ARGS": f"-k {options.worker_class}",
            "web_concurrency": "1",
            "web_threads": str(options.threads),
            "database_url": postgres.url,
            "redis_url": redis_server.url,
            "secret_key": secrets.token_urlsafe(48),
            "access_token_expire_minutes": "1440",
            "max_active": "1000000",
            "rate_limit_create": NEVER_HIT,
            "rate_limit_validate": NEVER_HIT,
            # A busy machine may stall for longer than the default; work is what is measured.
            "redis_connect_timeout_ms": "5000",
            "redis_timeout_ms": "5000",
        }
        flask(["db", "upgrade"], "", environment)
        servers = [Service(directory, free_port()), Floor(directory, free_port())]
        for server in servers:
            server.environment = environment
            running.enter_context(server)
        cells = measure(options, servers, redis_server, log_in(servers[0].port))
    print(report.table(cells, "service", "floor"))
    if options.save:
        report.save(cells, vars(options))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each load, 7 a round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--threads", type=int, default=8, help="of the gunicorn worker")
    parser.add_argument("--worker-class", default="gthread", choices=["gthread", "sync"])
    parser.add_argument("--save", action="store_true", help=f"write {report.SAVED.name}")
    return parser.parse_args()


def log_in(port: int) -> str:
    """Open an account. :returns: its JWT"""
    account = {"correo": "bench@example.com", "password": secrets.token_urlsafe(24)}
    post(port, "/auth/register", {"nombre": "Bench", **account})
    return str(post(port, "/auth/login", account)["access_token"])


def post(port: int, path: str, body: dict[str, str]) -> Any:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, 10)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return json.load(connection.getresponse())


def measure(
    options: argparse.Namespace, servers: list[Service], redis_server: local.Redis, jwt: str
) -> list[report.Cell]:
    cells: list[report.Cell] = []
    floor = servers[-1]

    def cell(turn: int, server: Service, kind: str, tokens: Sequence[str] = ()) -> list[str]:
        job = load.Load(kind, server.port, options.seconds, options.connections, jwt, list(tokens))
        before = cpu_seconds(server), cpu_seconds(redis_server)
        done = load.run(job)
        used = cpu_seconds(server) - before[0], cpu_seconds(redis_server) - before[1]
        counts = done.units, done.requests, done.seconds
        cells.append(report.Cell(turn, server.name, kind, *counts, *used))
        return done.tokens

    for turn in range(options.rounds + 1):  # turn 0 is to warm up
        redis.Redis.from_url(redis_server.url).flushdb()
        cell(turn, floor, "bare")
        for server in servers:
            cell(turn, server, "pair")
        created = [cell(turn, server, "create") for server in servers]
        for server, tokens in zip(servers, created, strict=True):
            cell(turn, server, "validate", tokens)
        servers.reverse()  # so that neither always comes after the other
    return [cell for cell in cells if cell.turn > 0]


def cpu_seconds(server: local.Server) -> float:
    """What ``server`` and its children have used until now, the dead ones included."""
    assert server.process  # it runs, and /proc knows it: this needs Linux
    pids = [server.process.pid]
    ticks = 0
    for pid in pids:
        process = Path(f"/proc/{pid}")
        pids += map(int, (process / f"task/{pid}/children").read_text().split())
        times = (process / "stat").read_text().rpartition(")")[2].split()[11:15]
        ticks += sum(map(int, times))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
