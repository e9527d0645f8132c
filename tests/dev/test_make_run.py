"""``make run``: its servers, its printed tour, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg2
import pytest
import redis
from flask import Flask

from config import Config
from dev import CannotStart, Postgres
from dev.__main__ import chosen_port
from dev.demo.texts import PAGE, SAYINGS
from dev.server import free_port
from tests.stage.clones import LOCAL, clone_in, printed
from tests.stage.paths import ROOT
from tests.stage.processes import running
from tests.stage.programs import needs_program
from tests.stage.queries import query


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither the environment nor a ``.env`` names a server."""
    for name in ("database_url", "redis_url"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return


@pytest.mark.usefixtures("no_settings")
def test_make_run_reports_a_taken_port_before_any_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": port}
        done = subprocess.run(
            LOCAL, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    sentence = f"Port {port} is taken. Choose another: make run PORT=9000\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    assert not list(tmp_path.glob(".local/postgres*"))


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "٣"])
def test_make_run_refuses_an_invalid_port(port: str) -> None:
    with pytest.raises(CannotStart, match="is not a port"):
        chosen_port(port)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return clone_in(tmp_path)


@pytest.fixture
def alien(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database of another project, named above the clone, in a shell full of its variables."""
    url = f"{postgres.url.rpartition('/')[0]}/alien"
    for name in (".env", ".flaskenv"):
        (tmp_path / name).write_text(f"DATABASE_URL={url}\nFLASK_APP=alien\nPGPORT=1\n")
    (tmp_path / "metrics").mkdir()
    for name, value in {
        "FLASK_APP": "alien",
        "FLASK_ENV_FILE": "missing.env",
        "GUNICORN_CMD_ARGS": "--config missing.conf.py",
        "LOG_LEVEL": "INFO",
        "PGSSLMODE": "require",
        "PIP_USER": "1",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "rate_limit_login": "OFF",
        "REDIS_PORT": "tcp://10.96.3.4:6379",
    }.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(psycopg2.connect(postgres.url, sslmode="prefer")) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE alien")
        yield url
        connection.cursor().execute("DROP DATABASE alien WITH (FORCE)")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``make flask`` without make."""
    return subprocess.run(
        [*LOCAL, "flask", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_program("curl")
@pytest.mark.usefixtures("no_settings")
def test_make_run_serves_the_tour_it_prints_and_ends_quietly(
    clone: Path, alien: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running([*LOCAL, str(free_port())], clone) as run:
        assert run.stdout
        lines = printed(run)
        tour = "".join(line for line in lines if line.startswith("  "))
        output = subprocess.check_output(["/bin/sh", "-ec", tour], text=True)
        listed = command(clone, "users", "list")
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does
        rest = run.stdout.read()

    assert re.fullmatch(r"See it work: +http://127\.0\.0\.1:\d+/demo\n", lines[0])
    assert '"valid":true' in re.sub(r"\s", "", output)
    assert (run.returncode, rest) == (0, "")
    assert (listed.returncode, json.loads(listed.stdout)["nombre"]) == (0, "Demo"), listed.stderr
    monkeypatch.delenv("PGSSLMODE")
    with Postgres(clone / ".local", durable=False) as kept:
        assert query(kept.url, "SELECT nombre FROM users") == [("Demo",)]
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert query(alien, tables) == [(0,)]
    assert not list((tmp_path / "metrics").iterdir())
    after = command(clone, "users", "list")
    assert after.returncode == 1
    assert after.stderr == (
        "make run does not run in this folder, and these are not set: "
        "database_url, redis_url, secret_key\n"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("no_settings")
def test_make_run_uses_the_servers_that_are_given(
    clone: Path, app: Flask, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a command reaches them too, or none."""
    (clone / ".env").write_text(f"export REDIS_URL = '{config.redis_url}' # why\n")
    monkeypatch.setenv("DATABASE_URL", str(config.database_url))
    monkeypatch.setenv("rate_limit_create", "4 per day")  # The page's two service keys count.
    port = free_port()
    with running([*LOCAL, str(port)], clone) as run:
        printed(run)
        url, english = f"http://127.0.0.1:{port}", {"Accept-Language": "en"}
        pages = httpx.Client(base_url=url, headers=english, timeout=30)
        with pages, redis.from_url(str(config.redis_url)) as client:
            origin, before = {"Origin": str(pages.base_url)}, client.info("server")["run_id"]
            page = pages.get("/demo").text
            restarted = pages.post("/demo/restart", headers=origin)
            made = [pages.post("/demo/create", headers=origin).json() for _ in range(4)]
            assert client.info("server")["run_id"] == before
        monkeypatch.delenv("DATABASE_URL")
        listed = command(clone, "users", "list")
        monkeypatch.setenv("database_url", "postgresql://hunter2@other/d")
        refused = command(clone, "users", "list")
        os.killpg(run.pid, signal.SIGINT)
    assert '"demo@example.com"' in listed.stdout, listed.stderr
    assert (refused.returncode, refused.stderr) == (
        1,
        "database_url is not that of the running service.\n",
    )
    assert PAGE["en"]["no_restart"] in page
    assert 'data-run="restart"' not in page
    assert restarted.status_code == 404
    assert made[0]["said"] == SAYINGS["en"]["created"]
    assert re.fullmatch(SAYINGS["en"]["rate_limited"].format(wait=r"\d+"), made[-1]["said"])
    assert not (clone / ".local" / "postgres").exists()
    assert not (clone / ".local" / "redis.conf").exists()
