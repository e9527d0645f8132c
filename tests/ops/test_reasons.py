"""The log says which check of readiness failed and why: once a change, and without a secret."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator

import psycopg2
import pytest
import redis
from flask import Flask

import dev
from tests.stage.paths import ROOT

ASK = """
import json, sys, time
from config import Config
from tokenservice import create_app
from tokenservice.telemetry import lines

for settings in json.load(sys.stdin):
    client = create_app(Config.from_mapping(settings)).test_client()
    lines.stderr.write("next\\n")  # as the log does, so in its place
    client.post("/auth/login", json={"correo": "a@example.com", "password": "x"})
    for pause in (0, 0.3):
        time.sleep(pause)
        for part in ("postgres", "redis"):
            client.get(f"/readyz/{part}")
"""
PATIENT = {"redis_timeout_ms": "5000", "redis_connect_timeout_ms": "5000"}
ROLE_PASSWORD = secrets.token_urlsafe(24)


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def lines(settings: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """For each of some settings, the lines of a service about its stores."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known = (secrets_of(one) for one in settings)
    assert not [secret for each in known for secret in each if secret in done.stderr]
    return [
        [json.loads(line) for line in part.splitlines()] for part in done.stderr.split("next\n")[1:]
    ]


def secrets_of(settings: dict[str, str]) -> list[str]:
    urls = [value for name, value in settings.items() if name.endswith("_url")]
    found = [url.partition("//")[2].rpartition("@")[0].partition(":")[2] for url in urls]
    return [settings["secret_key"], *filter(None, found)]


def changes(written: list[dict[str, str]], store: str) -> list[dict[str, str]]:
    """The lines about one store: the other may be slow for a moment."""
    return [line for line in written if line["event"] == "readiness.changed" and store in line]


@pytest.mark.slow
def test_each_cause_has_its_name(
    app: Flask, postgres: dev.Postgres, own_redis: dev.Redis, mute: int
) -> None:
    """All of them were ``OperationalError`` or nothing at all. Guard: ``failures.KINDS``."""
    p, r = postgres.url, own_redis.url
    to_p, to_r = f"127.0.0.1:{postgres.port}", f"127.0.0.1:{own_redis.port}"
    guess = secrets.token_urlsafe(12)
    with redis.from_url(r) as admin, psycopg2.connect(p) as connection:
        admin.execute_command("ACL", "SETUSER", "reader", "on", f">{guess}", "~*", "+info")
        connection.cursor().execute("DROP ROLE IF EXISTS stranger")
        words = "CREATE ROLE stranger LOGIN CONNECTION LIMIT 0 PASSWORD %s"
        connection.cursor().execute(words, (ROLE_PASSWORD,))
        connection.commit()
        causes = [
            ("database_url", f"postgresql://token_service:{guess}@{to_p}/token_service",
             "wrong user or password"),
            ("database_url", f"postgresql://nobody:{guess}@{to_p}/x", "wrong user or password"),
            ("database_url", f"{p}_nowhere", "missing database"),
            ("database_url", p.replace("127.0.0.1", "nowhere.invalid"), "unresolved name"),
            ("database_url", p.replace(to_p, "127.0.0.1:1"), "refused"),
            ("database_url", p.replace(to_p, f"127.0.0.1:{mute}"), "timeout"),
            ("database_url", f"{p}?sslmode=require", "TLS mismatch"),
            ("database_url", p.removesuffix("token_service") + "template1", "missing table"),
            ("database_url", f"postgresql://stranger:{ROLE_PASSWORD}@{to_p}/token_service",
             "too many connections"),
            ("database_url", "postgresql://ana@/x?host=/nowhere", "no socket"),
            ("redis_url", f"redis://:{guess}@{to_r}/0", "wrong user or password"),
            ("redis_url", f"redis://{to_r}/0", "wrong user or password"),
            ("redis_url", f"redis://reader:{guess}@{to_r}/0", "no permission"),
            ("redis_url", r.replace("/0", "/99"), "missing database"),
            ("redis_url", r.replace("127.0.0.1", "nowhere.invalid"), "unresolved name"),
            ("redis_url", r.replace(to_r, "127.0.0.1:1"), "refused"),
            ("redis_url", r.replace(to_r, f"127.0.0.1:{mute}"), "timeout"),
            ("redis_url", r.replace("redis://", "rediss://"), "TLS handshake timed out"),
            ("redis_url", r.replace(to_r, to_p), "connection lost"),
        ]  # fmt: skip
        right = {"secret_key": secrets.token_urlsafe(48), "database_url": p, "redis_url": r}
        patience = [{} if "time" in why else PATIENT for *_, why in causes]
        wrong = [{name: value} for name, value, _ in causes]
        spoilt = [right | one | other for one, other in zip(patience, wrong, strict=True)]
        found = lines([right | PATIENT, *spoilt])
    assert not [line for line in found[0] if line["event"] == "readiness.changed"]
    for (name, _, why), written in zip(causes, found[1:], strict=True):
        store = "redis" if name == "redis_url" else "postgres"
        # On a machine that stalls, any look may take longer than its limit.
        [line] = [
            line for line in changes(written, store) if why == "timeout" or line["why"] != "timeout"
        ]
        assert (line["why"], line["level"]) == (why, "warning"), written
        outages = [line["why"] for line in written if line["event"] == "database.unavailable"]
        assert set(outages) <= {why, "timeout"}, written
        assert outages or store == "redis" or why == "missing table"


def test_each_change_has_one_line(own_redis: dev.Redis, app: Flask, postgres: dev.Postgres) -> None:
    """However many probes come between, and the return too. Guard: ``Look._log``."""
    script = """
import sys, time
from wsgi import app

client = app.test_client()
for line in sys.stdin:
    for _ in range(3):
        time.sleep(0.3)
        client.get("/readyz")
        client.get("/readyz/redis")
    print("seen", flush=True)
time.sleep(0.3)
"""
    settings = {
        "secret_key": secrets.token_urlsafe(48),
        "database_url": postgres.url,
        "redis_url": own_redis.url,
        **PATIENT,
    }
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr

        def look() -> None:
            assert process.stdin
            assert process.stdout
            process.stdin.write("look\n")
            process.stdin.flush()
            assert process.stdout.readline() == "seen\n"

        look()
        own_redis.stop()
        look()
        own_redis.start()
        look()
        process.stdin.close()
        written = [json.loads(line) for line in process.stderr]
    told = [(line["redis"], line.get("why"), line["level"]) for line in changes(written, "redis")]
    assert told == [
        ("unavailable", "refused", "warning"),
        ("ok", None, "info"),
    ]
