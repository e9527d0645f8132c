"""A real Redis on loopback, with a random password."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dev.server import BARE_ENVIRONMENT, CannotStart, Server, private

EMPTY = '""'  # how redis.conf spells an empty value
DEFAULTS = {
    "maxmemory": "128mb",
    "maxmemory-policy": "noeviction",
    "save": "",
    "appendonly": "no",
}


class Redis(Server):
    """A Redis that keeps nothing on disk, and refuses writes when it is full.

    ``settings`` are lines of redis.conf by name, over the ``DEFAULTS``.
    """

    name = "redis"

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(directory, port)
        self.settings = {**DEFAULTS, **(settings or {})}
        self.password = password or secrets.token_urlsafe(24)
        self._program = ""

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self._program = find_redis()

    def command(self) -> list[str]:
        # In a file and not among the arguments, which every user of the machine can read.
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
        }
        with open(self.directory / "redis.conf", "w", opener=private) as file:
            file.writelines(
                f"{name} {value or EMPTY}\n" for name, value in (lines | self.settings).items()
            )
        return [self._program, "redis.conf"]

    def options(self) -> dict[str, Any]:
        return {"cwd": self.directory, "env": BARE_ENVIRONMENT}

    def responds(self) -> bool:
        # The password also tells this Redis from another one on the same port.
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                return [replies.readline(), replies.readline()] == [
                    b"+OK\r\n",
                    b"+PONG\r\n",
                ]
        return False


def find_redis() -> str:
    """The path of a Redis (or Valkey) server: PATH first, else what the Makefile installed.

    :raises CannotStart: when there is none
    """
    wheel = Path(sys.prefix, "redis", "bin", "redis-server")
    for program in ("redis-server", "valkey-server", str(wheel)):
        if found := shutil.which(program):
            return found
    raise CannotStart(
        "There is no redis-server. Install it with the system's package manager (Debian: "
        "apt-get install redis-server; macOS: brew install redis), or set redis_url."
    )
