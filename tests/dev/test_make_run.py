"""``make run``: its servers, its printed tour, and its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import CannotStart, Postgres, given, servers
from dev.__main__ import chosen_port
from dev.server import free_port
from tests.stage.paths import ROOT
from tests.stage.processes import running
from tests.stage.programs import needs_program
from tests.stage.queries import query

LOCAL = [sys.executable, "-m", "dev"]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither the environment nor a ``.env`` names a server."""
    for name in ("database_url", "redis_url"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_given_servers_are_not_started(
    case: type[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(case("database_url"), "postgresql://elsewhere/x")
    Path(".env").write_text(f"{case('redis_url')}=redis://elsewhere:6379/0\n")

    with servers(tmp_path / "data", throwaway=True) as settings:
        assert settings == {
            "database_url": "postgresql://elsewhere/x",
            "redis_url": "redis://elsewhere:6379/0",
        }

    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("redis_url=a", "a"),
        ("export REDIS_URL = 'a b#c' # why", "a b#c"),
        ('redis_url="a"\nredis_url=b # last', "b"),
        ("# redis_url=a", ""),
        ("redis_url=\nother=a", ""),
        ("my_redis_url=a", ""),
    ],
)
def test_env_file_is_read_as_the_service_reads_it(text: str, value: str) -> None:
    Path(".env").write_text(text)

    assert given("redis_url") == value


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


@needs_program("curl")
@pytest.mark.usefixtures("no_settings")
def test_make_run_serves_the_tour_it_prints_and_ends_quietly(tmp_path: Path) -> None:
    for name in ("tokenservice", "dev", "migrations", "config.py", "wsgi.py", "gunicorn.conf.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    with running([*LOCAL, str(free_port())], tmp_path) as run:
        assert run.stdout
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(run.stdout.readline())
            assert lines[-1], "it ended"
        tour = "".join(line for line in lines if line.startswith("  "))
        output = subprocess.check_output(["/bin/sh", "-ec", tour], text=True)
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does
        rest = run.stdout.read()

    assert '"valid":true' in re.sub(r"\s", "", output)
    assert (run.returncode, rest) == (0, "")
    with Postgres(tmp_path / ".local", durable=False) as kept:
        assert query(kept.url, "SELECT nombre FROM users") == [("Demo",)]
