"""docs/operations: the commands of each page, run as written, under callers where it says so."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg2
import pytest
import redis

import dev
from config import Config
from dev.postgres import find_postgres, unprivileged_account
from dev.server import BARE_ENVIRONMENT
from tests.docs.callers import CALLERS, Callers, Outcomes, Program
from tests.docs.deployed import Deployment, Shell, assert_shown, containers, deployment, steps
from tests.docs.pages import either_language, read, table
from tests.stage.commands import flask
from tests.stage.compose import SECRETS, compose
from tests.stage.waiting import until
from tokenservice.ops.capacity import Load, need_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
#: The sections of each page that have commands, and that the tests below run.
RUN = {
    "first-deployment": ["Steps"],
    "secrets": [
        *("Before you begin", "secret_key", "Postgres", "Redis", "Certificate", "Service keys"),
        "metrics_token",
    ],
    "upgrade": ["Upgrade", "Rollback"],
    "backup": ["Back up", "Restore", "A point in time"],
    "redis": ["Move to another server", "To a cluster"],
    "resharding": ["Slots", "redis_shards"],
    "capacity": ["Steps"],
}

#: What callers may see where no call fails: the proxy closes connections without a call, on one of
#: which a call may just come in, and a shared machine stalls.
UNHARMED = {"consumed", "reconnected", "503 busy", "503 database_unavailable"}
#: Why a store does not serve a call while a machine stalls, or right after that.
STALLS = {"timeout", "NotAsked"}


@pytest.fixture(scope="module")
def deployed(
    own_postgres: dev.Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The deployment of the first page, which the others go on with."""
    with deployment(tmp_path_factory.mktemp("deployed"), own_postgres) as made:
        yield made


@pytest.fixture
def callers(deployed: Deployment) -> Callers:
    return Callers(deployed.url, deployed.folder, deployed.authority)


def assert_unharmed(deployed: Deployment, outcomes: Outcomes) -> None:
    log = (deployed.folder / "haproxy.log").read_text()
    downs = re.findall("is DOWN, reason: ([^,]+)", log)
    stalled = {"503 not_ready"} if any("timeout" in reason for reason in downs) else set()
    assert set(outcomes) <= UNHARMED | stalled, (outcomes, downs)
    assert outcomes["reconnected"] <= 2 * CALLERS
    for written in deployed.folder.glob("**/service.log"):
        whole = written.read_text().rpartition("\n")[0]
        lines = [line for line in map(json.loads, whole.splitlines()) if "stream" not in line]
        events = ("database.unavailable", "readiness.changed")
        causes = {line["why"] for line in lines if line["event"] in events and "why" in line}
        assert causes <= STALLS, (written, causes)


def test_each_secret_is_rotated_and_no_call_fails(deployed: Deployment, callers: Callers) -> None:
    """And the old one is refused. Callers log in anew in place of a wait for the end of JWTs."""

    def is_unused() -> bool:
        """Whether the old role of Postgres is: a connection ends a moment after its worker."""
        count = steps("secrets", "Postgres")[2][0].splitlines()[0]
        return deployed.run(count).strip() == "0"

    deployed.follow("secrets", "Before you begin")
    before = deployed.settings()
    key = (deployed.folder / "backend.header").read_text().split()[-1]
    deployed.run("sleep() { command sleep 0.2; }")
    deployed.new_certificate()
    with callers.calling() as outcomes:
        for secret, changed, wait in (
            ("secret_key", 2, callers.anew),
            ("Postgres", 2, lambda: until(is_unused)),
            ("Redis", 0, lambda: None),
            ("Service keys", 1, callers.anew),
        ):
            deployed.follow("secrets", secret, until=changed)
            wait()
            deployed.follow("secrets", secret, since=changed)
            callers.more()
        assert_unharmed(deployed, outcomes)
        assert not outcomes["reconnected"]
        deployed.run("unset -f sleep")
        deployed.follow("secrets", "Certificate")
        callers.more()
    assert_unharmed(deployed, outcomes)
    deployed.follow("secrets", "metrics_token")

    shown = ssl.get_server_certificate(("localhost", deployed.ports[8443]))
    assert shown == (deployed.folder / "fullchain.pem").read_text()
    now = deployed.settings()
    for name in ("secret_key", "db_user", "db_password", "redis_password"):
        assert now[name] != before[name]
    with pytest.raises(psycopg2.OperationalError):
        deployed.postgres(before).close()
    deployed.postgres(now).close()
    with pytest.raises(redis.AuthenticationError):
        deployed.redis(before).info("server")
    assert deployed.redis(now).info("server")
    refused = httpx.get(
        f"{deployed.service}/auth/me", headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
    assert refused.status_code == 401


def test_a_new_instance_takes_over_and_back_and_no_call_fails(
    deployed: Deployment, callers: Callers
) -> None:
    """Of the same version: tests/torture/test_versions.py has the one before beside this one."""
    with callers.calling() as outcomes:
        deployed.follow("upgrade", "Upgrade")
        callers.more()
        deployed.follow("upgrade", "Rollback")
    assert_unharmed(deployed, outcomes)


def test_a_restored_backup_logs_in_and_honours_no_old_token(deployed: Deployment) -> None:
    program = Program(deployed)
    session = program.log_in().json()
    unused, used = program.create(), program.create()
    assert program.consume(used).status_code == 200
    deployed.follow("backup", "Back up")
    late = "users create late@example.com --nombre Late --password-stdin < backend_password"
    deployed.run(f".venv/bin/flask {late}")
    assert program.log_in("late@example.com").status_code == 200

    deployed.follow("backup", "Restore", until=1)
    deployed.run("rm .env owner_url users.acl redis_admin_password certificate.pem")
    deployed.follow("backup", "Restore", since=1)

    assert program.log_in().status_code == 200
    assert program.log_in("late@example.com").status_code == 401
    for token in (unused, used):
        refused = program.consume(token)
        assert (refused.status_code, refused.json()["code"]) == (410, "token_lost")
    stale = {"refresh_token": session["refresh_token"]}
    assert program.post("/auth/refresh", stale).status_code == 401
    assert program.consume(program.create()).status_code == 200


def test_redis_moves_and_reshards_and_no_token_is_honoured_twice(
    deployed: Deployment, callers: Callers
) -> None:
    """What is lost is what the pages say: what is outstanding at a move, and no later token."""
    program = Program(deployed)
    deployed.follow("secrets", "Before you begin")
    harmless = {*UNHARMED, "lost", "503 store_unavailable", "503 not_ready"}
    with callers.calling() as outcomes:
        for page, move in (
            ("redis", "Move to another server"),
            ("redis", "To a cluster"),
            ("resharding", "Slots"),
        ):
            old = program.create()
            deployed.follow(page, move)
            assert set(outcomes) <= harmless, (move, outcomes)
            lost = outcomes["lost"]
            callers.more()
            assert outcomes["lost"] <= lost + CALLERS, (move, outcomes)
            if page == "redis":
                assert program.consume(old).json()["code"] == "token_lost"
        old = program.create()
        lost = outcomes["lost"]
        deployed.follow("resharding", "redis_shards")
        assert program.consume(old).status_code == 200
    assert outcomes["lost"] <= lost + CALLERS
    assert set(outcomes) <= harmless, outcomes


def test_postgres_goes_back_to_a_point_in_time() -> None:
    """On a server of its own, by the commands of the page, as the user that it runs as."""
    account = unprivileged_account()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if account:
            os.chown(folder, account["user"], account["group"])
        shell = Shell(
            folder,
            {
                "PATH": f"{find_postgres(account)[0]}:{BARE_ENVIRONMENT['PATH']}",
                "PGDATA": f"{folder}/data",
                "PGHOST": str(folder),
                "PGDATABASE": "postgres",
            },
            **account,
        )
        try:
            shell.run(
                f"initdb -A trust -N > initdb.log\n"
                f"echo \"unix_socket_directories = '{folder}'\" >> data/postgresql.conf\n"
                "printf '%s\\n' \"listen_addresses = ''\" 'fsync = off' >> data/postgresql.conf\n"
                "pg_ctl start -w -s -l postgres.log"
            )
            archive, copy, restore = steps("backup", "A point in time")
            shell.run(archive[0])
            assert_shown(copy[1], shell.run(copy[0]))
            shell.run("psql -q -c \"CREATE TABLE users AS SELECT 'ana' AS nombre\"")
            shell.run("moment=$(psql -Atc 'SELECT clock_timestamp()')")
            shell.run(
                "psql -q -c 'DROP TABLE users' -c 'SELECT pg_switch_wal()' > switched\n"
                "until [ \"$(psql -Atc 'SELECT archived_count FROM pg_stat_archiver')\" -ge 4 ]\n"
                "do sleep 0.1; done"
            )
            assert_shown(restore[1], shell.run(restore[0]))
            assert shell.run("psql -Atc 'SELECT nombre FROM users'").strip() == "ana"
            shell.run("pg_ctl stop -w -s -m immediate")
        finally:
            shell.end()


def test_each_section_with_commands_is_run() -> None:
    """A section that is added, and that no test above runs, turns this red."""
    for page, headings in RUN.items():
        assert [block for heading in headings for block in steps(page, heading)] == steps(page)


@either_language("docs/operations/capacity.md")
def test_the_rows_of_the_capacity_are_those_of_the_command(page: str) -> None:
    for cells in table(read(page), "50"):
        rate, *figures = map(int, cells)
        need = need_of(
            Load(
                rate=rate,
                life=Config.onetime_token_expire_seconds,
                used_after=Config.onetime_token_expire_seconds,
                receipt=Config.receipt_seconds,
                window=Config.idempotency_window_seconds,
                data=0,
                audience=1,
                logins=rate / 100,
                hash_kib=Config.argon2_memory_kib,
                threads=Config.web_threads,
                redis_ms=1,
            )
        )
        expected = [need.workers, need.threads, need.memory_mb, need.postgres_connections]
        assert figures == [*expected, need.redis_masters, need.redis_maxmemory_mb]


def test_the_output_of_the_capacity_is_as_shown(config: Config, tmp_path: Path) -> None:
    [(block, shown)] = steps("capacity")
    done = flask(config, *block.split()[1:], folder=tmp_path)
    assert_shown(shown, done.stdout)


def test_commands_of_compose_exist() -> None:
    """Their subcommands, options and services, by docker-compose, which needs no daemon for it."""
    services = set(compose("config", "--services", **SECRETS).stdout.split())
    for page in RUN:
        for block in containers(page):
            for line in block.splitlines():
                if not line.startswith("docker compose "):
                    continue
                words = shlex.split(re.split(r" [<>] ", line)[0])[2:]
                known = compose(words[0], "--help").stdout
                named = iter(words[1:])
                for word in named:
                    if word.startswith("-"):
                        assert re.search(rf"(^|\s){word}\b", known), line
                        if word == "-u":
                            next(named)
                        continue
                    assert word in services, line
                    if words[0] == "exec":
                        break
