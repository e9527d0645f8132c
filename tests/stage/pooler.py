"""A real PgBouncer in transaction mode before a Postgres, as managed Postgres offers one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

import psycopg2

from dev.postgres import Postgres, unprivileged_account
from dev.server import BARE_ENVIRONMENT, Server, private
from tests.stage.programs import program


class Pooler(Server):
    """A PgBouncer with ``sessions`` server connections for all of its clients."""

    name = "pgbouncer"

    def __init__(self, directory: Path, postgres: Postgres, sessions: int = 1) -> None:
        super().__init__(directory)
        self._postgres, self._sessions = postgres, sessions
        # PgBouncer does not run as root, and its user may not enter the folders of the tests.
        self._account = unprivileged_account()
        self._folder = Path(tempfile.mkdtemp(prefix="pooler-"))

    @property
    def url(self) -> str:
        """The address for libpq; the pooler asks for no password."""
        return f"postgresql://token_service@127.0.0.1:{self.port}/token_service"

    def command(self) -> list[str]:
        server = urllib.parse.urlsplit(self._postgres.url)
        settings = (
            "[databases]\n"
            f"token_service = host=127.0.0.1 port={server.port} user={server.username} "
            f"password={server.password}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {self._sessions}\n"
            "server_login_retry = 1\n"
        )
        with open(self._folder / "pgbouncer.ini", "w", opener=private) as file:
            file.write(settings)
        if self._account:
            for path in (self._folder, self._folder / "pgbouncer.ini"):
                os.chown(path, self._account["user"], self._account["group"])
        return [program("pgbouncer"), str(self._folder / "pgbouncer.ini")]

    def options(self) -> dict[str, Any]:
        return {"cwd": "/", "env": BARE_ENVIRONMENT, **self._account}

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._folder)

    def responds(self) -> bool:
        with (
            contextlib.suppress(psycopg2.OperationalError),
            contextlib.closing(psycopg2.connect(self.url)),
        ):
            return True
        return False
