"""``flask users seed`` beside a running service."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient

import dev
from config import Config
from tests.stage.paths import ROOT
from tests.stage.people import PASSWORD, new_correo
from tests.stage.waiting import until
from tokenservice.auth.seeding import BATCH

#: The name of the command at Postgres.
NAME = "seed"
Seed = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def seed(config: Config) -> Iterator[Seed]:
    """Start ``flask users seed`` with the default cost of a hash."""
    started: list[subprocess.Popen[str]] = []

    def start(file: Path) -> subprocess.Popen[str]:
        given = {
            name: str(value)
            for name, value in dataclasses.asdict(config).items()
            if value is not None and value != () and name != "argon2_memory_kib"
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", "wsgi", "users", "seed", file.name],
                cwd=file.parent,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "PGAPPNAME": NAME,
                    **given,
                },
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def correos(tmp_path: Path) -> list[str]:
    """The addresses of two batches, in ``people.jsonl``."""
    found = [new_correo() for _ in range(2 * BATCH)]
    lines = [{"nombre": "Ana", "correo": correo, "password": PASSWORD} for correo in found]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return found


@pytest.mark.slow
def test_addresses_can_be_registered_while_seed_hashes(
    client: FlaskClient, seed: Seed, correos: list[str], tmp_path: Path
) -> None:
    """Red if the first batch waits for the second in a transaction."""
    seeding = seed(tmp_path / "people.jsonl")
    statuses, slowest, began = [], 0.0, time.monotonic()
    for correo in correos:
        if seeding.poll() is not None:
            break
        account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
        sent = time.monotonic()
        statuses.append(client.post("/auth/register", json=account).status_code)
        slowest = max(slowest, time.monotonic() - sent)
        time.sleep(0.1)
    message, _ = seeding.communicate(timeout=60)
    assert seeding.returncode == 0
    assert set(statuses) <= {201, 409}
    # A wait for the second batch lasts about half of it.
    assert slowest < (time.monotonic() - began) / 4
    opened = statuses.count(201)
    assert f"{len(correos) - opened} accounts created, {opened} existed already." in message


def test_seed_holds_no_lock_and_writes_nothing_while_it_hashes(
    app: Flask, postgres: dev.Postgres, seed: Seed, correos: list[str], tmp_path: Path
) -> None:
    """Not even the lock of a SELECT, for which a migration would wait. Guard: ``rollback`` in
    ``seeding.missing``."""
    watch = psycopg2.connect(postgres.url)
    watch.autocommit = True
    try:
        seeding = seed(tmp_path / "people.jsonl")
        cursor = watch.cursor()

        def value(query: str, *values: object) -> object:
            cursor.execute(query, values)
            row = cursor.fetchone()
            return row and row[0]

        state = "SELECT state FROM pg_stat_activity WHERE application_name = %s"
        until(lambda: str(value(state, NAME)).startswith("idle"), seconds=60)
        time.sleep(0.5)
        assert seeding.poll() is None  # It hashes.
        assert value(state, NAME) == "idle"
        seeding.kill()
        seeding.wait()
        assert value("SELECT count(*) FROM users WHERE correo = ANY(%s)", correos) == 0
    finally:
        watch.close()
