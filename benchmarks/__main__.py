"""``make bench``: the service beside its floor and peers, on throw-away servers; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import redis

from benchmarks import load, report, servers
from tokenservice import local
from tokenservice.local.__main__ import flask
from tokenservice.local.server import free_port

NEVER_HIT = 100_000_000  # a minute
WARM_UP_SECONDS = 3.0  # of each load in turn 0: Node compiles what runs often


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
            "rate_limit_create": f"{NEVER_HIT} per minute",
            "rate_limit_validate": f"{NEVER_HIT} per minute",
            # A busy machine may stall for longer than the default; work is what is measured.
            "redis_connect_timeout_ms": "5000",
            "redis_timeout_ms": "5000",
            # What only the peers read.
            "calls_per_minute": str(NEVER_HIT),
            "onetime_token_expire_seconds": str(load.LIFE),
        }
        flask(["db", "upgrade"], "", environment)
        kinds = [servers.Measured, servers.Floor, servers.FastapiSeed]
        if servers.BetterAuth.is_there():
            kinds.append(servers.BetterAuth)
        else:
            print("better_auth is skipped: node, or what it needs, is not there.")
        measured = [kind(directory, free_port(), environment) for kind in kinds]
        for server in measured:
            running.enter_context(server)
            server.register()
        cells = measure(options, measured, (redis_server, postgres))
    names = [kind.name for kind in kinds]
    print(report.table(cells, names[0], names[1:], servers.Floor.name))
    if options.save:
        report.save(cells, vars(options))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each load, 13 a round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--threads", type=int, default=8, help="of the gunicorn worker")
    parser.add_argument("--worker-class", default="gthread", choices=["gthread", "sync"])
    parser.add_argument("--save", action="store_true", help=f"write {report.SAVED.name}")
    return parser.parse_args()


def measure(
    options: argparse.Namespace,
    measured: list[servers.Measured],
    stores: tuple[local.Redis, local.Postgres],
) -> list[report.Cell]:
    cells: list[report.Cell] = []
    order = list(measured)
    [floor] = [server for server in measured if isinstance(server, servers.Floor)]

    def cell(
        turn: int, server: servers.Measured, kind: str, tokens: Sequence[str] = ()
    ) -> list[str]:
        seconds = options.seconds if turn else WARM_UP_SECONDS
        size = server.port, seconds, options.connections
        job = load.Load(kind, *size, server.calls, callers[server], list(tokens))
        before = [cpu_seconds(process) for process in (server, *stores)]
        done = load.run(job)
        after = [cpu_seconds(process) for process in (server, *stores)]
        used = (end - start for start, end in zip(before, after, strict=True))
        counts = done.units, done.requests, done.seconds
        cells.append(report.Cell(turn, server.name, kind, *counts, *used))
        return done.tokens

    for turn in range(options.rounds + 1):  # turn 0 is the warm-up
        redis.Redis.from_url(stores[0].url).flushdb()
        callers = {server: server.log_in() for server in order}
        cell(turn, floor, "bare")
        for server in order:
            cell(turn, server, "pair")
        created = [cell(turn, server, "create") for server in order]
        for server, tokens in zip(order, created, strict=True):
            cell(turn, server, "validate", tokens)
        order.append(order.pop(0))  # so that none always comes after the same other
    return [cell for cell in cells if cell.turn > 0]


def cpu_seconds(server: local.Server) -> float:
    """What ``server`` and its children have used until now, the dead ones included."""
    assert server.process  # it runs, and /proc knows it: this needs Linux
    pids = [server.process.pid]
    ticks = 0
    for pid in pids:
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # Postgres ends some
            pids += map(int, (process / f"task/{pid}/children").read_text().split())
            times = (process / "stat").read_text().rpartition(")")[2].split()[11:15]
            ticks += sum(map(int, times))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
