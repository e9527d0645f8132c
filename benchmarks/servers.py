"""What is measured: this service, its floor, and what people could use instead."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import shutil
from pathlib import Path
from typing import Any

from benchmarks.load import Calls
from tokenservice.local.__main__ import Service

# Each peer's packages are installed apart: the service must not see them.
PEER_A = Path(".venv/peer-a")
PEER_B = Path(".venv/peer-b")


class Measured(Service):
    """This service, or another server that does the same for a caller."""

    calls = Calls("POST /token/create", "POST /token/validate")

    def __init__(self, directory: Path, port: int, environment: dict[str, str]) -> None:
        super().__init__(directory, port)
        self.environment = environment
        self.account = {"correo": "bench@example.com", "password": secrets.token_urlsafe(24)}

    def register(self) -> None:
        self.post("/auth/register", {"nombre": "Bench", **self.account})

    def log_in(self) -> str:
        """:returns: the header that tells who calls"""
        _, body = self.post("/auth/login", self.account)
        return f"Authorization: Bearer {body['access_token']}\r\n"

    def post(self, path: str, body: dict[str, str]) -> tuple[http.client.HTTPMessage, Any]:
        headers = {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.headers, json.load(answer)


class Floor(Measured):
    name = "floor"

    def command(self) -> list[str]:
        return [*super().command(), "benchmarks.floor:app"]

    def register(self) -> None:
        """It has no accounts."""

    def log_in(self) -> str:
        return ""


class FastapiSeed(Measured):
    name = "fastapi_seed"

    def command(self) -> list[str]:
        server = ["-m", "uvicorn", "--loop=uvloop", "--http=httptools", "--no-access-log"]
        where = ["--host=127.0.0.1", f"--port={self.port}"]
        app = "benchmarks.peers.fastapi_seed.app:app"
        return [str(PEER_A / "bin/python"), *server, *where, app]


class BetterAuth(Measured):
    name = "better_auth"
    paths = "/api/auth/one-time-token"
    calls = Calls(f"GET {paths}/generate", f"POST {paths}/verify")

    def __init__(self, directory: Path, port: int, environment: dict[str, str]) -> None:
        own = {"NODE_ENV": "production", "NODE_PORT": str(port)}
        super().__init__(directory, port, environment | own)
        self.account = {"email": self.account["correo"], "password": self.account["password"]}

    @staticmethod
    def is_there() -> bool:
        return bool(shutil.which("node")) and (PEER_B / "node_modules").is_dir()

    def command(self) -> list[str]:
        return ["node", str(PEER_B / "server.mjs")]

    def register(self) -> None:
        self.post("/api/auth/sign-up/email", {"name": "Bench", **self.account})

    def log_in(self) -> str:
        headers, _ = self.post("/api/auth/sign-in/email", self.account)
        session = headers["Set-Cookie"].partition(";")[0]
        return f"Cookie: {session}\r\nOrigin: http://127.0.0.1:{self.port}\r\n"
