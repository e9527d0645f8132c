"""Secrets given to the service, and every place that may reveal them afterwards."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg2
import redis

import dev
from tests.stage.waiting import until
from tokenservice.auth import refresh_tokens
from tokenservice.auth.rights import PREFIX, KeyText
from tokenservice.onetime.format import RESERVATION, TOKEN, Reservation, Token


class Canaries:
    """Named secrets; a find is reported by the name alone."""

    def __init__(self) -> None:
        self._spellings: dict[bytes, str] = {}
        self.texts: dict[str, str] = {}

    def add(self, name: str, text: str) -> str:
        """Look for ``text`` from now on, and for its secret part."""
        assert text, f"{name} was not issued"
        self.texts[name] = text
        parts = [text]
        if text.startswith(TOKEN):
            parts.append(Token.parse(text).secret)
        elif text.startswith(RESERVATION):
            parts.append(Reservation.parse(text).secret)
        elif text.startswith(PREFIX):
            parts.append(KeyText.parse(text).secret)
        elif text.startswith(refresh_tokens.PREFIX):
            parts.append(text[-refresh_tokens.CHECKSUM - refresh_tokens.SECRET :])
        elif text.startswith("eyJ"):
            parts.append(text.rpartition(".")[2])
        for part in parts:
            raw = part.encode()
            for spelling in (
                raw,
                quote(part, safe="").encode(),
                json.dumps(part)[1:-1].encode(),
                base64.b64encode(raw).rstrip(b"="),
                raw.hex().encode(),
            ):
                self._spellings[spelling] = name
        return text

    def found_in(self, place: str, data: bytes) -> list[str]:
        return [f"{name} in {place}" for text, name in self._spellings.items() if text in data]


def files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below ``directory`` except the configuration, which holds the password.

    Since Redis 7 the append-only file is a folder of several: appendonly.aof.1.incr.aof.
    """
    for path in directory.rglob("*"):
        if path.is_file() and path.name != "redis.conf":
            name = ".".join(path.name.split(".")[:2])
            yield f"the file {name}", path.read_bytes()


def redis_places(server: dev.Redis) -> Iterator[tuple[str, bytes]]:
    """All keys and values, the slow log, the client list, and all files, freshly written."""
    client = redis.Redis.from_url(server.url)
    for key in client.scan_iter(count=1000):
        yield "a key of Redis", key + (client.dump(key) or b"")
    yield "the slow log of Redis", repr(client.slowlog_get(100_000)).encode()
    yield "the clients of Redis", repr(client.client_list()).encode()
    client.save()
    client.close()
    yield from files(server.directory)


def postgres_places(server: dev.Postgres) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, and the log with every statement."""
    connection = psycopg2.connect(server.url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            for (table,) in cursor.fetchall():
                cursor.execute(f'SELECT t::text FROM "{table}" t')  # noqa: S608 - its own name
                yield f"the table {table}", "\n".join(row for (row,) in cursor).encode()
    finally:
        connection.close()
    yield "the log of Postgres", server.log.read_bytes()


class Monitor:
    """Every command that Redis receives during the ``with``, as MONITOR shows it."""

    def __init__(self, server: dev.Redis) -> None:
        self._client = redis.Redis.from_url(server.url)
        self.seen = b""

    def __enter__(self) -> Monitor:
        self._connection = self._client.connection_pool.get_connection()
        self._connection.send_command("MONITOR")
        self._connection.read_response()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError, ValueError, AttributeError):
            while True:
                self.seen += self._connection.read_response() + b"\n"

    def __exit__(self, *_: object) -> None:
        last = secrets.token_hex(16)
        self._client.echo(last)
        until(lambda: last.encode() in self.seen)
        self._connection.disconnect()
        self._thread.join(5)


class Arguments:
    """The arguments of every process of this machine, polled during the ``with``."""

    def __enter__(self) -> Arguments:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # The process may have ended.
                    self.seen.add(path.read_bytes())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
