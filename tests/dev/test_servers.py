"""The local servers of ``make run`` and of the tests."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest
import redis

from dev import CannotStart, Postgres, Redis, Server
from dev.postgres import unprivileged_account
from dev.server import KEPT, free_port, keep, watchdog
from tests.stage.paths import ROOT
from tests.stage.processes import ends, running
from tests.stage.programs import needs
from tests.stage.queries import ping, query


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


def test_postgres_starts_over_a_stale_pid_file(tmp_path: Path) -> None:
    """Guard: the unlink in ``prepare``. Postgres takes any process with that pid for a server."""
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


def test_redis_restarts_on_the_same_port_after_a_crash(tmp_path: Path) -> None:
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


def test_a_lost_port_is_replaced_and_a_given_one_is_not(tmp_path: Path) -> None:
    with Redis(tmp_path / "any") as first:
        second = Redis(tmp_path / "lost")
        second.port = first.port
        with second:
            assert second.port != first.port

        with pytest.raises(CannotStart, match="Address already in use"):
            Redis(tmp_path / "given", port=first.port).start()


def test_a_port_is_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing listens on it, here or in another process. Guard: ``keep``."""
    port, other = free_port(), free_port()
    os.close(KEPT.pop())  # The last one is nobody's again.
    drawn = iter([port - 20_000, other - 20_000])
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(drawn))
    assert free_port() == other
    script = f"from dev.server import keep; print(keep({port}))"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    assert told.stdout == b"False\n"


def test_few_marks_of_ports_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dev.server.KEPT", kept := deque[int]())
    monkeypatch.setattr("dev.server.MOST_KEPT", 2)
    ports = [free_port() for _ in range(4)]
    assert len(kept) == 2
    assert [keep(port) for port in ports[2:]] == [False] * 2


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

    assert time.monotonic() - started < 12  # and not stop_seconds


def test_ctrl_c_at_the_terminal_does_not_reach_a_server(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole session; the service needs its stores for the last responses."""
    with Redis(tmp_path) as server:
        assert server.process
        assert os.getsid(server.process.pid) != os.getsid(0)


def test_servers_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Cleanly, also one that is paused. Guards: the INT and the CONT of ``watchdog``."""
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
    assert all(ends(pid, 30) for pid in pids)
    assert "received fast shutdown request" in (tmp_path / "postgres.log").read_text()
    with Redis(tmp_path), Postgres(tmp_path, durable=False) as again:
        assert query(again.url, "SELECT 1") == [(1,)]


def test_a_server_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the KILL of ``watchdog``. Its pause takes no time here."""
    (tmp_path / "sleep").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    deaf = ["/bin/sh", "-c", "trap '' INT; echo; exec /bin/sleep 60"]
    with subprocess.Popen(deaf, stdout=subprocess.PIPE) as server:
        assert server.stdout
        server.stdout.readline()
        with watchdog(server.pid):
            pass  # At the end its pipe is closed.
        assert server.wait(30) == -signal.SIGKILL


@needs(os.geteuid() == 0, "only root has to run Postgres as another user")
def test_postgres_of_root_starts_for_a_directory_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with Postgres(closed, durable=False) as postgres:
        elsewhere = (closed / "postgres").resolve()
        assert query(postgres.url, "SELECT 1") == [(1,)]
        assert not elsewhere.is_relative_to(closed)

    assert closed.stat().st_mode & 0o777 == 0o700
    assert not elsewhere.exists()
