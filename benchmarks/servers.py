"""The measured servers: the service, its floor, and its peers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

import dev
from benchmarks import wrk
from benchmarks.wrk import Calls, Load
from dev.__main__ import Service
from dev.server import free_port

# The packages of each peer are installed apart, because the service must not see them.
PEER_A = Path(".venv/peer-a")
PEER_B = Path(".venv/peer-b")


@dataclass(frozen=True)
class Row:
    """One load on one server, in one turn. CPU is in seconds, latency in milliseconds."""

    turn: int
    server: str
    kind: str
    units: float
    requests: int
    seconds: float
    p50: float
    p99: float
    p999: float
    server_cpu: float
    redis_cpu: float
    postgres_cpu: float
    wrk_cpu: float
    redis_commands: int
    redis_bytes: int

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


class Measured(Service):
    """The service, or another server with the same calls.

    :param label: its name in the tables
    :param changes: settings that differ from those of the run
    """

    kind = "service"
    calls = Calls("POST /token/create", "POST /token/validate")

    def __init__(
        self, directory: Path, environment: dict[str, str], label: str = "", **changes: object
    ) -> None:
        self.label = label or self.kind
        super().__init__(directory / self.label.replace(" ", "-"), free_port())
        self.environment = environment | {name: str(value) for name, value in changes.items()}
        self.account = {
            "correo": f"{secrets.token_hex(4)}@example.com",
            "password": secrets.token_urlsafe(24),
        }
        self.headers = ""

    def load(self, kind: str, seconds: int, **options: Any) -> Load:
        tokens = self.directory / "tokens"
        return Load(kind, self.port, seconds, self.calls, self.headers, tokens, **options)

    def sign_in(self) -> None:
        """Open an account, log in, and keep the header with its credentials."""
        self.post("/auth/register", {"nombre": "Bench", **self.account})
        _, body = self.post("/auth/login", self.account)
        self.headers = f"Authorization: Bearer {body['access_token']}\r\n"

    def post(self, path: str, body: dict[str, str]) -> tuple[http.client.HTTPMessage, Any]:
        headers = {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.headers, json.load(response)

    def memory(self) -> float:
        """Resident memory of its largest process, in MB."""
        return max(resident(pid) for pid in family(self))


class Floor(Measured):
    kind = "floor"

    def command(self) -> list[str]:
        return [*super().command(), "benchmarks.floor:app"]

    def sign_in(self) -> None:
        """Do nothing: the floor has no accounts."""


class FastapiSeed(Measured):
    kind = "fastapi_seed"

    def command(self) -> list[str]:
        server = ["-m", "uvicorn", "--loop=uvloop", "--http=httptools", "--no-access-log"]
        where = ["--host=127.0.0.1", f"--port={self.port}"]
        app = "benchmarks.peers.fastapi_seed.app:app"
        return [str(PEER_A / "bin/python"), *server, *where, app]


class BetterAuth(Measured):
    kind = "better_auth"
    paths = "/api/auth/one-time-token"
    calls = Calls(f"GET {paths}/generate", f"POST {paths}/verify")

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        super().__init__(directory, environment)
        self.environment |= {"NODE_ENV": "production", "NODE_PORT": str(self.port)}

    @staticmethod
    def is_there() -> bool:
        return bool(shutil.which("node")) and (PEER_B / "node_modules").is_dir()

    def command(self) -> list[str]:
        return ["node", str(PEER_B / "server.mjs")]

    def sign_in(self) -> None:
        account = {"email": self.account["correo"], "password": self.account["password"]}
        self.post("/api/auth/sign-up/email", {"name": "Bench", **account})
        headers, _ = self.post("/api/auth/sign-in/email", account)
        session = headers["Set-Cookie"].partition(";")[0]
        self.headers = f"Cookie: {session}\r\nOrigin: http://127.0.0.1:{self.port}\r\n"


@dataclass
class Stage:
    """A Postgres and a Redis, and the environment of every server of the run."""

    directory: Path
    postgres: dev.Postgres
    redis: dev.Redis
    environment: dict[str, str]

    @contextlib.contextmanager
    def running(self, *servers: Measured) -> Iterator[None]:
        """Run ``servers``, signed in, while the ``with`` lasts."""
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.enter_context(server)
                server.sign_in()
            yield

    def measure(self, turn: int, server: Measured, load: Load, tolerant: bool = False) -> Row:
        """Put ``load`` on ``server``, and measure CPU and Redis traffic before and after."""
        processes = (server, self.redis, self.postgres)
        client = redis.Redis.from_url(self.redis.url)
        before, stats = [cpu_seconds(process) for process in processes], client.info("stats")
        done = wrk.run(load, tolerant)
        after, later = [cpu_seconds(process) for process in processes], client.info("stats")
        used = [end - start for start, end in zip(before, after, strict=True)]
        grown = {name: later[name] - stats[name] for name in STATS}
        return Row(
            turn,
            server.label,
            load.kind,
            *(done.units, done.requests, done.seconds, done.p50, done.p99, done.p999),
            *used,
            done.cpu,
            grown["total_commands_processed"],
            grown["total_net_input_bytes"] + grown["total_net_output_bytes"],
        )


STATS = ("total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")


def family(server: dev.Server) -> Iterable[int]:
    """The pids of ``server`` and of all its children, from Linux's /proc."""
    assert server.process
    pids = [server.process.pid]
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # Postgres ends some
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return pids


def cpu_seconds(server: dev.Server) -> float:
    """CPU seconds of ``server`` and its children so far, those of ended ones included."""
    ticks = 0
    for pid in family(server):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
            ticks += sum(map(int, times))
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """The resident memory of a process, in MB."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
    return 0.0
