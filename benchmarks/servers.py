"""The measured servers: the service, at another revision too, its floor, and its peers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import redis

import dev
from benchmarks import wrk
from benchmarks.revision import Revision
from benchmarks.wrk import Calls, Load
from dev.__main__ import Service
from dev.server import free_port

# The packages of each peer are installed apart, because the service must not see them.
PEER_A = Path(".venv/peer-a")
PEER_B = Path(".venv/peer-b")
PEER_C = Path(".venv/peer-c")
SETTLE_SECONDS = 60
#: The label of the other revision.
BEFORE = "before"


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
    # Of a load with a bound for the time of a response only.
    timely: int = 0
    busy: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


@dataclass(frozen=True)
class Figure:
    """One number that is not of a load, in one turn; the kind says what it counts."""

    turn: int
    server: str
    kind: str
    value: float


@dataclass(frozen=True)
class Burst:
    """Calls at once, or for a while: the status of each, and the seconds until the last."""

    turn: int
    server: str
    kind: str
    seconds: float
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def succeeded(self) -> int:
        return self.statuses.get("200", 0)


class Measured(Service):
    """The service, or another server with the same calls.

    :param label: its name in the tables
    :param revision: where its code is, if not in this work tree
    :param changes: settings that differ from those of the run
    """

    kind = "service"
    calls = Calls("POST /token/create", "POST /token/validate")

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        label: str = "",
        revision: Revision | None = None,
        **changes: object,
    ) -> None:
        self.label = label or self.kind
        self.revision = revision
        super().__init__(directory / self.label.replace(" ", "-"), free_port())
        self.environment = environment | {name: str(value) for name, value in changes.items()}
        self.account = {
            "correo": f"{secrets.token_hex(4)}@example.com",
            "password": secrets.token_urlsafe(24),
        }
        self.headers = ""

    def command(self) -> list[str]:
        _, *words = super().command()
        return [self.revision.python if self.revision else sys.executable, *words]

    def options(self) -> dict[str, Any]:
        where = {"cwd": self.revision.root} if self.revision else {}
        return super().options() | where

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

    def settle(self) -> None:
        """Wait until it serves again after too much of something.

        :raises SystemExit: it does not
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self.responds():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.label} does not respond any more.")
            time.sleep(0.1)
        time.sleep(1)  # for what is still queued

    def responds(self) -> bool:
        """Whether /readyz is 200: an older revision, or a peer, knows no probe for each store."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                return connection.getresponse().status == http.HTTPStatus.OK
        return False

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

    @staticmethod
    def is_there() -> bool:
        return (PEER_A / "bin/python").exists()

    def command(self) -> list[str]:
        server = ["-m", "uvicorn", "--loop=uvloop", "--http=httptools", "--no-access-log"]
        where = ["--host=127.0.0.1", f"--port={self.port}"]
        app = "benchmarks.peers.fastapi_seed.app:app"
        return [str(PEER_A / "bin/python"), *server, *where, app]


class BetterAuth(Measured):
    kind = "better_auth"
    paths = "/api/auth/one-time-token"
    calls = Calls(f"GET {paths}/generate", f"POST {paths}/verify")

    @staticmethod
    def is_there() -> bool:
        return bool(shutil.which("node")) and (PEER_B / "node_modules").is_dir()

    def command(self) -> list[str]:
        return ["node", str(PEER_B / "server.mjs")]

    def options(self) -> dict[str, Any]:
        return {"env": on_node(self)}

    def sign_in(self) -> None:
        account = {"email": self.account["correo"], "password": self.account["password"]}
        self.post("/api/auth/sign-up/email", {"name": "Bench", **account})
        headers, _ = self.post("/api/auth/sign-in/email", account)
        session = headers["Set-Cookie"].partition(";")[0]
        self.headers = f"Cookie: {session}\r\nOrigin: http://127.0.0.1:{self.port}\r\n"


class FastifyGetdel(Measured):
    kind = "fastify_getdel"

    @staticmethod
    def is_there() -> bool:
        return bool(shutil.which("node")) and (PEER_C / "node_modules").is_dir()

    def command(self) -> list[str]:
        return ["node", str(PEER_C / "server.mjs")]

    def options(self) -> dict[str, Any]:
        return {"env": on_node(self)}

    def sign_in(self) -> None:
        """Sign a JWT as another service would: this one has no accounts."""
        claims = {"sub": self.account["correo"], "exp": int(time.time()) + wrk.LIFE}
        signed = jwt.encode(claims, self.environment["secret_key"], "HS256")
        self.headers = f"Authorization: Bearer {signed}\r\n"


def on_node(server: Measured) -> dict[str, str]:
    return server.environment | {"NODE_ENV": "production", "NODE_PORT": str(server.port)}


@dataclass
class Stage:
    """A Postgres and a Redis, and the environment of every server of the run.

    :param before: the other revision, if there is one
    """

    directory: Path
    postgres: dev.Postgres
    redis: dev.Redis
    environment: dict[str, str]
    before: Revision | None = None

    def services(self, label: str = "", **changes: object) -> list[Measured]:
        """The service, and next to it that of the other revision."""
        found = [Measured(self.directory, self.environment, label, **changes)]
        if self.before:
            name = f"{BEFORE} {label}".strip()
            settings = self.before.environment
            found.append(Measured(self.directory, settings, name, self.before, **changes))
        return found

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
            *(done.timely, done.busy, done.failed),
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
    return memory(Path(f"/proc/{pid}/status"), "VmRSS:")


def proportional(server: dev.Server) -> float:
    """The memory of a server and its children in MB, each shared page counted once."""
    return sum(memory(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in family(server))


def memory(file: Path, name: str) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1000
    return 0.0
