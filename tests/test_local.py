"""The servers that ``make run`` and these tests stand on, and ``make run`` itself."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from config import Config
from dev import CannotStart, Postgres, Redis, Server, given, servers
from dev.__main__ import chosen_port
from dev.postgres import unprivileged_account
from dev.server import free_port
from tests.conftest import needs

PROJECT = Path(__file__).parent.parent
LOCAL = [sys.executable, "-m", "dev"]


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def ping(url: str) -> bool:
    with contextlib.closing(redis.from_url(url)) as client:
        return bool(client.ping())


def ends(pid: int, seconds: float) -> bool:
    """Whether the process is gone, or a zombie that its new parent is slow to bury."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                time.sleep(0.05)
                continue
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a session of its own, which a failed test does not wait for."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "redis_timeout_ms": "2000",  # shared machines stall
        "redis_connect_timeout_ms": "2000",
    }
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither the environment nor a ``.env`` names a server."""
    for name in ("database_url", "redis_url"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return


def test_postgres_keeps_its_data_through_a_stop_and_a_crash(tmp_path: Path) -> None:
    with Postgres(tmp_path, durable=False) as postgres:
        url = postgres.url
        query(url, "CREATE TABLE kept (n int)")

        postgres.stop()
        postgres.start()
        query(url, "INSERT INTO kept VALUES (1)")
        postgres.kill()
        postgres.start()

        assert query(url, "SELECT n FROM kept") == [(1,)]


def test_postgres_starts_over_the_pid_file_of_a_dead_one(tmp_path: Path) -> None:
    """Red without the unlink in ``prepare``: Postgres takes any process for a server of its own."""
    with (
        Postgres(tmp_path, durable=False) as postgres,
        subprocess.Popen(["/bin/sleep", "60"], cwd="/", **unprivileged_account()) as stranger,
    ):
        postgres.kill()
        (pid_file,) = (tmp_path / "postgres").resolve().glob("*/postmaster.pid")
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))

        postgres.start()
        stranger.kill()

        assert query(postgres.url, "SELECT 1") == [(1,)]


def test_redis_crashes_and_comes_back_on_the_same_port(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        url = server.url

        server.kill()
        with pytest.raises(redis.ConnectionError):
            ping(url)
        server.start()

        assert ping(url)


def test_redis_demands_its_password_and_evicts_nothing(tmp_path: Path) -> None:
    with Redis(tmp_path, settings={"maxmemory": "5mb"}) as server:
        with pytest.raises(redis.AuthenticationError):
            ping(f"redis://127.0.0.1:{server.port}/0")

        with contextlib.closing(redis.from_url(server.url, decode_responses=True)) as client:
            settings = client.config_get("*")

    assert settings["maxmemory"] == str(5 * 1024 * 1024)
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    assert settings["appendonly"] == "no"


def test_passwords_are_neither_in_the_process_list_nor_readable_by_others(tmp_path: Path) -> None:
    with Redis(tmp_path) as cache, Postgres(tmp_path, durable=False) as postgres:
        for server in (cache, postgres):
            assert server.process
            password = server.url.split("@")[0].rsplit(":", 1)[1]
            assert password not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
        for secret in ("redis.conf", "postgres/password"):
            assert (tmp_path / secret).stat().st_mode & 0o077 == 0


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        with pytest.raises(CannotStart, match="Another run is using"):
            Redis(tmp_path).claim(seconds=0.1)

        assert ping(server.url)


def test_a_port_lost_in_the_meantime_is_replaced_and_a_given_one_is_not(tmp_path: Path) -> None:
    with Redis(tmp_path / "any") as first:
        second = Redis(tmp_path / "lost")
        second.port = first.port
        with second:
            assert second.port != first.port

        with pytest.raises(CannotStart, match="Address already in use"):
            Redis(tmp_path / "given", port=first.port).start()


@pytest.mark.parametrize("make", [Redis, Postgres])
def test_a_failure_shows_the_end_of_the_log(
    make: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is Redis:
        server: Server = Redis(tmp_path, settings={"no-such-setting": "1"})
    else:
        server = Postgres(tmp_path, durable=False)
        monkeypatch.setattr(server, "_pace", lambda: {"no_such_setting": "1"})

    with pytest.raises(CannotStart, match=r"no.such.setting"), server:
        pass


def test_a_paused_server_still_stops_at_once(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        assert server.process
        server.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()

    assert time.monotonic() - started < 5


def test_ctrl_c_at_the_terminal_does_not_reach_a_server(tmp_path: Path) -> None:
    """It goes to the session; the service has to answer its last requests first."""
    with Redis(tmp_path) as server:
        assert server.process
        assert os.getsid(server.process.pid) != os.getsid(0)


def test_servers_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = """if True:
        import pathlib, signal, time
        from dev import Postgres, Redis
        directory = pathlib.Path.cwd()
        with Redis(directory) as redis, Postgres(directory, durable=False) as postgres:
            postgres.process.send_signal(signal.SIGSTOP)
            print(redis.process.pid, postgres.process.pid, flush=True)
            time.sleep(60)
    """
    with running([sys.executable, "-c", script], tmp_path) as parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()

    assert len(pids) == 2
    assert all(ends(pid, 8) for pid in pids)
    with Redis(tmp_path), Postgres(tmp_path, durable=False) as again:
        assert query(again.url, "SELECT 1") == [(1,)]


@needs(os.geteuid() == 0, "only root has to run Postgres as somebody else")
def test_postgres_of_root_in_a_directory_that_is_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with Postgres(closed, durable=False) as postgres:
        elsewhere = (closed / "postgres").resolve()
        assert query(postgres.url, "SELECT 1") == [(1,)]
        assert not elsewhere.is_relative_to(closed)

    assert closed.stat().st_mode & 0o777 == 0o700
    assert not elsewhere.exists()


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_servers_that_are_given_are_not_started(
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
def test_make_run_says_that_its_port_is_taken_before_it_starts_anything(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PORT": port}
        done = subprocess.run(
            LOCAL, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    sentence = f"Port {port} is taken. Choose another: make run PORT=9000\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    assert not list(tmp_path.glob(".local/postgres*"))


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "٣"])
def test_make_run_takes_only_a_port_for_a_port(port: str) -> None:
    with pytest.raises(CannotStart, match="is not a port"):
        chosen_port(port)


@pytest.mark.usefixtures("no_settings")
def test_make_run_serves_the_tour_it_prints_and_ends_quietly(tmp_path: Path) -> None:
    for name in ("tokenservice", "dev", "migrations", "config.py", "wsgi.py", "gunicorn.conf.py"):
        (tmp_path / name).symlink_to(PROJECT / name)
    with running([*LOCAL, str(free_port())], tmp_path) as run:
        assert run.stdout
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(run.stdout.readline())
            assert lines[-1], "it ended"
        tour = "".join(line for line in lines if line.startswith("  "))
        answer = subprocess.check_output(["/bin/sh", "-ec", tour], text=True)
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does
        rest = run.stdout.read()

    assert '"valid":true' in re.sub(r"\s", "", answer)
    assert (run.returncode, rest) == (0, "")
    with Postgres(tmp_path / ".local", durable=False) as kept:
        assert query(kept.url, "SELECT nombre FROM users") == [("Demo",)]


def test_env_example_names_every_setting() -> None:
    text = (PROJECT / ".env.example").read_text()
    names = re.findall(r"^#?([a-z][a-z0-9_]*)=", text, re.MULTILINE)

    assert sorted(names) == sorted(
        [field.name for field in dataclasses.fields(Config)] + ["redis_password"]
    )
