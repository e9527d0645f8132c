"""Passwords, tokens and keys: sent in every way and through every fault, and then searched for.

A token's subject, purpose and data, an account's nombre and an ``X-Request-ID`` are stored and
returned as they are: a password in one of them is no secret any more.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import flask_migrate
import httpx
import psycopg2
import pytest
import redis
from flask import Flask

import dev
from tests.stage.faults import configured, locked, orphan_replica, sql
from tests.stage.paths import ROOT
from tests.stage.people import new_correo
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture import ledger
from tests.torture.canaries import Arguments, Canaries, Monitor, postgres_places, redis_places
from tests.torture.exposure import Exposed, broken, give_secrets, mistakes, send_raw, uses
from tests.torture.haproxy import HAProxy, needs_haproxy
from tokenservice.extensions import db

#: Redis writes everything: snapshots, the append-only file, and each call as a slow one.
TALKATIVE = {
    "save": "3600 1",
    "appendonly": "yes",
    "slowlog-log-slower-than": "0",
    "slowlog-max-len": "100000",
}
#: The part of all mistakes that each phase makes.
PART = max(0.015, min(1.0, ledger.LENGTH))


@pytest.fixture
def exposed(
    tmp_path: Path, make_app: Callable[..., Flask], serve: Callable[..., Service]
) -> Iterator[Exposed]:
    canaries = Canaries()
    settings = {
        "secret_key": canaries.add("the secret key", secrets.token_urlsafe(48)),
        "secret_key_fallbacks": canaries.add("a fallback key", secrets.token_urlsafe(48)),
        "metrics_token": canaries.add("the metrics token", secrets.token_urlsafe(24)),
        "log_level": "debug",
        "cors_origins": "https://app.example.com",
        "redis_connect_timeout_ms": "50",
        "redis_timeout_ms": "100",
    }
    with (
        dev.Postgres(tmp_path / "postgres", durable=False) as postgres,
        dev.Redis(tmp_path / "redis", settings=TALKATIVE) as redis_server,
    ):
        with contextlib.closing(psycopg2.connect(postgres.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("ALTER SYSTEM SET log_statement = 'all'")
                cursor.execute("SELECT pg_reload_conf()")
        settings |= {"database_url": postgres.url, "redis_url": redis_server.url}
        for name in ("database_url", "redis_url"):
            password = urlsplit(settings[name]).password
            assert password
            canaries.add(f"the password of {name}", password)
        app = make_app(database_url=postgres.url)
        with app.app_context():
            flask_migrate.upgrade()
            db.engine.dispose()
        with (
            serve(web_concurrency=1, **settings) as service,
            httpx.Client(base_url=service.url, timeout=30) as http,
        ):
            yield Exposed(service, postgres, redis_server, settings, canaries, http)


@contextlib.contextmanager
def redis_stopped(exposed: Exposed) -> Iterator[None]:
    exposed.redis.stop()
    yield
    exposed.redis.start()


@contextlib.contextmanager
def redis_hung(exposed: Exposed) -> Iterator[None]:
    os.kill(exposed.redis.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(exposed.redis.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def records_spoilt(exposed: Exposed) -> Iterator[None]:
    """A fault that no script foresees: the records have the wrong type."""
    client = redis.Redis.from_url(exposed.redis.url)
    kept = {key: client.dump(key) for key in client.scan_iter("ott:*")}
    for key in kept:
        client.set(key, "spoilt")
    yield
    for key, value in kept.items():
        client.restore(key, 3_600_000, value, replace=True)
    client.close()


@contextlib.contextmanager
def postgres_stopped(exposed: Exposed) -> Iterator[None]:
    exposed.postgres.stop()
    yield
    exposed.postgres.start()


@contextlib.contextmanager
def table_spoilt(exposed: Exposed) -> Iterator[None]:
    """An unforeseen fault: each query for an account raises, and the response is a 500."""
    with sql(exposed) as cursor:
        cursor.execute("ALTER TABLE users RENAME COLUMN nombre TO apodo")
        yield
        cursor.execute("ALTER TABLE users RENAME COLUMN apodo TO nombre")


@contextlib.contextmanager
def row_refused(exposed: Exposed) -> Iterator[None]:
    """A fault in which Postgres quotes the refused row in its error."""
    with sql(exposed) as cursor:
        cursor.execute("ALTER TABLE users ADD CONSTRAINT nobody CHECK (false) NOT VALID")
        yield
        cursor.execute("ALTER TABLE users DROP CONSTRAINT nobody")


FAULTS = [
    contextlib.nullcontext,
    redis_stopped,
    redis_hung,
    records_spoilt,
    postgres_stopped,
    table_spoilt,
    row_refused,
    configured("maxmemory", "1"),
    orphan_replica,
    locked,
]


def command(exposed: Exposed, *words: str, given: str = "") -> None:
    """Run an operator's command; its output is searched, except for a new token or key."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **exposed.settings},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    is_secret = words[0] in ("tokens", "keys") and words[1] == "create"
    output = done.stderr if is_secret or words[1] == "reset-token" else done.stdout + done.stderr
    exposed.outputs.append((f"the output of flask {' '.join(words[:2])}", output.encode()))


def commands(exposed: Exposed, folder: Path) -> None:
    password = exposed.canaries.texts["a password"]
    token = exposed.canaries.texts["a token"]
    correo = new_correo()
    file = folder / "accounts.jsonl"
    file.write_text(f'{{"nombre": "Ana", "correo": "x", "password": "{password}"}}\n{password}\n')
    line = f"{password}\n"
    new = ("users", "create", correo, "--nombre", "Ana", "--password-stdin")
    command(exposed, *new, given=line)
    command(exposed, "users", "seed", str(file))
    if ledger.FULL:  # Each command takes a second to start.
        command(exposed, "users", "set-password", correo, "--password-stdin", given=line)
        command(exposed, "users", "reset-token", correo)
        command(exposed, "users", "export", correo)
        command(exposed, "sessions", "purge", "--days", "0")
        command(exposed, "tokens", "create", correo)
        command(exposed, "tokens", "list", correo)
        command(exposed, "keys", "create", correo, "--name", "a", "--scope", "token:read")
        command(exposed, "keys", "list", correo)
        command(exposed, "tokens", "show", token[4:22])
        command(exposed, "db", "current")


def places(exposed: Exposed, monitor: Monitor, arguments: Arguments) -> Iterator[tuple[str, bytes]]:
    yield from exposed.outputs
    yield from redis_places(exposed.redis)
    yield "the commands of Redis", monitor.seen
    yield from postgres_places(exposed.postgres)
    yield "the arguments of a process", b"\n".join(arguments.seen)
    # Last, because its lines come a moment after the responses.
    yield "the log", exposed.service.log.read_bytes()


@needs_haproxy
@pytest.mark.timeout(14_400 if ledger.FULL else 300)  # the Makefile's; or more than usual
def test_no_secret_is_returned_logged_or_stored(exposed: Exposed, tmp_path: Path) -> None:
    """ASVS 5.0 V16.2.5, V14.2.1, V6.5.2. Guards: ``logs.leave_out_quotes`` and the level of
    gunicorn's log, ``worker.Worker``, ``hide_parameters``, and ``verifier`` in format.py.
    """
    sent, canaries, monitor = 0, exposed.canaries, Monitor(exposed.redis)
    with Arguments() as arguments, HAProxy(tmp_path / "proxy", [exposed.service.port]) as proxy:
        headers = give_secrets(exposed)
        for fault in FAULTS:
            texts = canaries.texts.items()
            calls = [call for name, text in texts for call in mistakes(text, name, headers)]
            raw = [request for _, text in texts for request in broken(text)]
            if fault is table_spoilt:  # An outage is foreseen: one log line, and no traceback.
                assert b"Traceback" not in exposed.service.log.read_bytes()
            # A stopped Redis receives no command to reveal.
            healthy = fault is contextlib.nullcontext
            with monitor if healthy else fault(exposed):
                uses(exposed, headers)
                for method, path, options in random.sample(calls, round(len(calls) * PART)):
                    # The client itself refuses some of them.
                    with contextlib.suppress(httpx.LocalProtocolError, httpx.InvalidURL):
                        exposed.call(method, path, **options)
                        sent += 1
                for request in random.sample(raw, round(len(raw) * max(PART, 0.1))):
                    for port in (exposed.service.port, proxy.port):
                        send_raw(exposed, port, request)
                        sent += 1
                if fault in (contextlib.nullcontext, postgres_stopped):
                    commands(exposed, tmp_path)
            give_secrets(exposed)
        looked_at = list(places(exposed, monitor, arguments))
        looked_at.append(("the log of the proxy", proxy.log.read_bytes()))
    hits = {hit for place, data in looked_at for hit in canaries.found_in(place, data)}
    ledger.record(
        "No password, token, JWT or key is in a log, a response, a store's files or an argument",
        n=sent,
        failures=len(hits),
        figures=f"{len(canaries.texts)} secrets, {len(FAULTS)} faults, {len(looked_at)} places",
    )
    log = exposed.service.log.read_bytes()
    assert b"error.unexpected" in log
    assert b"$argon2" not in log
    assert b'"status": 400' in looked_at[-1][1]
    assert not re.search(rb"person\d", log)
    assert not hits, sorted(hits)


def test_a_planted_secret_is_found_everywhere(exposed: Exposed) -> None:
    """The twin: with a secret in each place, the search above finds all of them."""
    secret = exposed.canaries.add("a secret", secrets.token_urlsafe(24))
    words = ["-c", "import time; time.sleep(30)", secret]
    with Arguments() as arguments, Monitor(exposed.redis) as monitor:
        process = subprocess.Popen([sys.executable, *words])
        try:
            client = redis.Redis.from_url(exposed.redis.url)
            client.set("planted", secret)
            client.close()
            with sql(exposed) as cursor:
                cursor.execute(f"CREATE TABLE planted AS SELECT '{secret}' AS it")
            exposed.outputs.append(("a response", f"?x={quote(secret, safe='')}".encode()))
            raw = secret.encode()
            until(lambda: raw in monitor.seen and any(raw in one for one in list(arguments.seen)))
            with exposed.service.log.open("a") as log:
                log.write(f"{secret}\n")
        finally:
            process.kill()
            process.wait()
    looked_at = places(exposed, monitor, arguments)
    hits = {hit for place, data in looked_at for hit in exposed.canaries.found_in(place, data)}
    assert hits >= {
        f"a secret in {place}"
        for place in (
            "the log",
            "a response",
            "a key of Redis",
            "the slow log of Redis",
            "the file dump.rdb",
            "the file appendonly.aof",
            "the commands of Redis",
            "the table planted",
            "the log of Postgres",
            "the arguments of a process",
        )
    }
