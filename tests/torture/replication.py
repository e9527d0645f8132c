"""A Postgres primary and its standby, which can change places."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import psycopg2

import dev
from tests.stage.waiting import until


def query(server: dev.Postgres, words: str, *values: object) -> Any:
    """Run one statement; return the first field of its first row, or None."""
    with (
        contextlib.closing(psycopg2.connect(server.url)) as connection,
        connection.cursor() as cursor,
    ):
        connection.autocommit = True
        cursor.execute(words, values)
        found = cursor.fetchone() if cursor.description else None
        return found and found[0]


class Pair:
    """A primary and its hot standby, with streaming replication; a context manager.

    The standby is a copy of the primary, accounts and passwords included.
    """

    def __init__(self, directory: Path) -> None:
        self.primary, self.standby = self.servers = tuple(
            dev.Postgres(directory / name, durable=False) for name in ("one", "two")
        )

    def __enter__(self) -> Self:
        self._running = contextlib.ExitStack()
        with contextlib.ExitStack() as failure:
            failure.push(self._running)
            for server in self.servers:
                self._running.enter_context(server)
                server.stop()
            source, target = (home(server) for server in self.servers)
            for part in target.iterdir():
                part.unlink() if part.is_file() else shutil.rmtree(part)
            subprocess.run(["/bin/cp", "-a", f"{source}/.", target], check=True)
            self.primary.start()
            self._follow()
            failure.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._running.__exit__(*error)

    def url(self) -> str:
        """The URL of both hosts, in a fixed order; libpq finds the primary."""
        one, two = (server.port for server in self.servers)
        return self.servers[0].url.replace(f":{one}/", f":{one},127.0.0.1:{two}/")

    def change_places(self) -> None:
        """Stop the primary, promote the standby, and let the old primary follow it."""
        self.primary.stop()  # A clean stop: it sends all its data first.
        query(self.standby, "SELECT pg_promote()")
        self.primary, self.standby = self.standby, self.primary
        self._follow()

    def _follow(self) -> None:
        data = next(path for path in home(self.standby).iterdir() if path.is_dir())
        (data / "standby.signal").touch()
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{self.primary.url}'\n")
        self.standby.start()
        words = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        until(lambda: query(self.primary, words) == 1)


def home(server: dev.Postgres) -> Path:
    """The folder of its password and its data, which ``dev.Postgres`` may keep elsewhere."""
    return (server.directory / server.name).resolve()
