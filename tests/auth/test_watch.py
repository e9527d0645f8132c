"""Callers on watch: one look a second keeps all of them fresh, and finds each that changed."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import httpx
import psycopg2
import pytest
from flask import Flask
from sqlalchemy import event, text

import dev
from config import Config
from tests.stage.entries import run as run_python
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.proxy import Proxy
from tests.stage.queries import query, recorded
from tests.stage.service import Service
from tests.stage.waiting import served, until
from tokenservice.auth import callers
from tokenservice.auth.callers import Callers
from tokenservice.auth.jwts import Principal, principal_of
from tokenservice.extensions import db

LOOKS = "\nSELECT pg_current_snapshot"
READS = "SELECT users"
DISABLE = "UPDATE users SET is_active = false WHERE id = '{id}'"
#: Longer than a caller stays fresh without a look.
LONGER = callers.FRESH_DURING_A_LOOK_SECONDS + 0.1


class Site:
    """An app that looks at the changes, and callers of it."""

    def __init__(self, app: Flask, url: str) -> None:
        self.app, self.url = app, url
        assert self.call(self.enrol()) == 201
        time.sleep(0.5)  # By then it has looked once, and who calls first from now on is on watch.

    def enrol(self) -> Person:
        return enrol(self.app.test_client().post)

    def known(self) -> Person:
        someone = self.enrol()
        assert self.call(someone) == 201
        return someone

    def call(self, someone: Person) -> int:
        return self.app.test_client().post("/token/create", headers=someone.headers).status_code

    def calls(self, seconds: float, *people: Person) -> set[int]:
        """The statuses of calls during that time."""
        end, found = time.monotonic() + seconds, set()
        while time.monotonic() < end:
            found |= {self.call(someone) for someone in people}
            time.sleep(0.05)
        return found

    def watched(self, seconds: float, *people: Person) -> tuple[list[str], float]:
        """The queries, and the seconds, of calls for so long without a read of a caller.

        A read during a look, and a stall, cost a read more: up to five times.
        """
        for _ in range(5):
            started = time.monotonic()
            with recorded(self.app) as seen:
                assert self.calls(seconds, *people) == {201}
            if not any(sql.startswith(READS) for sql in seen):
                return seen, time.monotonic() - started
        raise AssertionError(seen)

    def is_out_in_time(self, someone: Person) -> bool:
        """Whether a caller that changed is out after two seconds, or two looks if these stall."""
        started = time.monotonic()
        with recorded(self.app, LOOKS) as looks:
            until(lambda: self.call(someone) == 401, seconds=5)
        return time.monotonic() - started < 2 or len(looks) <= 2


@pytest.fixture
def own_app(empty_url: str, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """On a database of its own, which no other test changes."""
    app = make_app(database_url=empty_url)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def site(own_app: Flask, empty_url: str) -> Site:
    with own_app.app_context():
        flask_migrate.upgrade()
    return Site(own_app, empty_url)


def test_known_callers_cost_one_look_a_second(site: Site) -> None:
    """And stay fresh. Guard: ``Callers._look``, and ``as_of`` of a caller."""
    people = [site.known() for _ in range(5)]
    seen, seconds = site.watched(2 * LONGER, *people)
    assert 1 <= len([sql for sql in seen if sql.startswith(LOOKS)]) <= seconds + 1
    assert len(seen) <= 2 * (seconds + 1)  # With the limits of time of each.


@contextlib.contextmanager
def open_transaction(url: str, sql: str) -> Iterator[Any]:
    with (
        contextlib.closing(psycopg2.connect(url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        yield cursor


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        DISABLE,
        "DELETE FROM users WHERE id = '{id}'",
        "TRUNCATE users CASCADE",
        "UPDATE users SET is_active = false",
        # So many that nobody is named.
        "INSERT INTO users (id, nombre, correo, password_hash) SELECT gen_random_uuid(), 'Ana', "
        "gen_random_uuid() || '@example.com', '' FROM generate_series(1, 2000);"
        "UPDATE users SET is_active = false",
        "flask users disable {correo}",
    ],
)
def test_whoever_changed_is_out_within_two_seconds(
    change: str, site: Site, make_app: Callable[..., Flask]
) -> None:
    """By hand or by another instance. Guard: the triggers, and ``Callers._learn``."""
    someone, another = site.known(), site.known()
    assert site.watched(LONGER, someone, another)
    words = change.format(id=someone.id, correo=someone.correo)
    if words.startswith("flask"):
        instance = make_app(database_url=site.url)
        assert instance.test_cli_runner().invoke(args=words.split()[1:]).exit_code == 0
        with instance.app_context():
            db.engine.dispose()
    else:
        query(site.url, words)
    assert site.is_out_in_time(someone)
    assert site.call(another) == (201 if someone.correo in words or someone.id in words else 401)


@pytest.mark.slow
def test_a_change_that_commits_late_is_out_within_two_seconds(site: Site) -> None:
    """Others commit before it, and some looks later it does."""
    early, late = site.known(), site.known()
    with open_transaction(site.url, DISABLE.format(id=early.id)) as cursor:
        query(site.url, DISABLE.format(id=late.id))
        assert site.is_out_in_time(late)
        assert site.calls(LONGER, early) == {201}
        cursor.execute("COMMIT")
        assert site.is_out_in_time(early)


@pytest.mark.slow
def test_an_account_that_changes_while_it_is_read_is_not_watched(site: Site) -> None:
    """The read saw it before, two looks told of it meanwhile, and then it would be kept.

    Guard: the check of the watch in ``Callers._read``.
    """
    someone, reading = site.enrol(), [threading.current_thread()]

    def stall(*call: Any) -> None:
        if call[2].startswith(READS) and threading.current_thread() in reading:
            reading.clear()
            query(site.url, DISABLE.format(id=someone.id))
            time.sleep(2.5 * callers.LOOK_EVERY_SECONDS)

    with site.app.app_context():
        engine = db.engine
    event.listen(engine, "after_cursor_execute", stall)
    assert site.call(someone) == 201
    assert site.call(someone) == 401


@pytest.mark.slow
def test_a_process_without_callers_does_not_look(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on where it was. Guard: ``callers.IDLE_SECONDS``."""
    monkeypatch.setattr(callers, "IDLE_SECONDS", 1.5)
    changed, same = site.known(), site.known()
    time.sleep(3)
    with recorded(site.app) as seen:
        time.sleep(2)
    assert not seen
    query(site.url, DISABLE.format(id=changed.id))
    asked = time.monotonic()
    assert site.call(changed) == 401
    until(lambda: site.app.extensions["Callers"]._watch.seen_at >= asked)
    with recorded(site.app, READS) as reads:
        assert site.call(same) == 201
    assert not reads


def test_a_command_does_not_look(app: Flask, make_app: Callable[..., Flask]) -> None:
    """Guard: only the read of a caller starts the thread."""
    someone, own, before = enrol(app.test_client().post), make_app(), threading.active_count()
    with recorded(own, LOOKS) as looks:
        for words in (["users", "disable", someone.correo], ["tokens", "list", someone.correo]):
            assert own.test_cli_runner().invoke(args=words).exit_code == 0
    assert not looks
    assert threading.active_count() <= before
    with own.app_context():
        db.engine.dispose()


@pytest.mark.slow
def test_on_an_older_schema_callers_are_read_as_before(
    own_app: Flask, empty_url: str, serve: Callable[..., Service]
) -> None:
    """It is not ready, and may be asked all the same. Guard: ``except`` in ``Callers._look``."""
    with own_app.app_context():
        flask_migrate.upgrade()
    with (
        serve(web_concurrency=1, database_url=empty_url) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        someone = enrol(http.post)
        with own_app.app_context():
            flask_migrate.downgrade(revision="0001")
        # Of a session there is no table now; a login goes without one.
        login = {"correo": someone.correo, "password": PASSWORD}
        body = served(lambda: http.post("/auth/login", json=login)).json()
        someone.headers = {"Authorization": f"Bearer {body['access_token']}"}

        def create() -> httpx.Response:
            return http.post("/token/create", headers=someone.headers)

        def status() -> int:
            time.sleep(0.05)
            return create().status_code

        served(create)
        assert {status() for _ in range(50)} == {201}
        query(empty_url, DISABLE.format(id=someone.id))
        until(lambda: status() == 401, seconds=1)
        with own_app.app_context():
            flask_migrate.upgrade()
        until(lambda: '"callers.watched"' in service.log.read_text(), seconds=10)
        log = service.log.read_text()
    [line] = [line for line in log.splitlines() if '"callers.unwatched"' in line]
    assert json.loads(line)["why"] == "missing table"


FORKED = """
import os, threading, time
import sys
from sqlalchemy import event
from wsgi import app
from tokenservice.extensions import db
from tokenservice.auth import callers as module
from tokenservice.auth.callers import callers
from tokenservice.auth.jwts import Principal

module.IDLE_SECONDS = 1000  # Longer than the test waits for this process.

def find():
    with app.app_context():
        callers.find(Principal({id!r}))
        callers.find(Principal({id!r}))

find()
time.sleep(0.5)
assert threading.active_count() == 2
with app.app_context():
    while callers._looking:  # What a look has locked would stay locked in the child.
        time.sleep(0.01)
if not (child := os.fork()):
    with app.app_context():
        db.engine.dispose(close=False)
    looks = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *call: looks.append(call[2]))
    time.sleep(2)
    find()
    for _ in range(100):
        if any("pg_current_snapshot" in sql for sql in looks):
            sys.exit()
        time.sleep(0.05)
    sys.exit("no look")
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_a_fork_looks_by_itself_and_no_thread_keeps_a_process(
    site: Site, config: Config, tmp_path: Path
) -> None:
    """Guards: ``is_alive`` in ``Callers._start_looking``, and ``daemon``."""
    given = {"secret_key": config.secret_key, "database_url": site.url, "log_level": "info"}
    done = run_python(["-c", FORKED.format(id=site.known().id)], tmp_path, given)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(300)  # Twice ten thousand queries first, which take a while beside others.
def test_ten_thousand_callers_cost_no_more_than_one(site: Site) -> None:
    """Guard: ``Watch``: what a look says counts for all of them at once."""
    ids = [str(uuid.uuid4()) for _ in range(callers.REMEMBERED)]
    with site.app.app_context(), db.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO users (id, nombre, correo, password_hash) "
                "SELECT CAST(id AS uuid), 'Ana', id || '@example.com', '' "
                "FROM unnest(CAST(:ids AS text[])) AS id"
            ),
            {"ids": ids},
        )

    def find_all(seconds: float) -> tuple[list[str], float]:
        """The queries of calls by all of them in turn, for so many seconds or once."""
        find, started = site.app.extensions["Callers"].find, time.monotonic()
        with site.app.app_context(), recorded(site.app) as seen:
            while not seen or time.monotonic() - started < seconds:
                for user_id in ids:
                    assert find(Principal(user_id)).is_active
                time.sleep(0.3)  # Several turns between two looks tell no more than one.
            return list(seen), time.monotonic() - started

    # Those that were read during a look are read once more.
    for _ in range(2):
        find_all(LONGER)
    for _ in range(5):  # A stall makes callers old.
        seen, seconds = find_all(4)
        if len(seen) <= 2 * (seconds + 1):
            return
    raise AssertionError(len(seen))


@pytest.fixture
def two_histories(
    tmp_path: Path, make_app: Callable[..., Flask]
) -> Iterator[tuple[dev.Postgres, dev.Postgres]]:
    """A Postgres and a copy of it, as a standby that will have missed what comes next."""
    first, second = (dev.Postgres(tmp_path / name, durable=False) for name in ("one", "two"))
    with contextlib.ExitStack() as running:
        for server in (first, second):
            running.enter_context(server)
        app = make_app(database_url=first.url)
        with app.app_context():
            flask_migrate.upgrade()
            db.engine.dispose()
        for server in (first, second):
            server.stop()
        source, target = ((server.directory / server.name).resolve() for server in (first, second))
        shutil.rmtree(target)
        subprocess.run(["/bin/cp", "-a", source, target], check=True)
        for server in (first, second):
            server.start()
        yield first, second


@pytest.mark.slow
def test_a_failover_that_loses_commits_forgets_everyone(
    two_histories: tuple[dev.Postgres, dev.Postgres], make_app: Callable[..., Flask]
) -> None:
    """The second server never heard of a caller, and its numbers are higher by then.

    Guard: the history of ``Sight.follows``.
    """
    first, second = two_histories
    with Proxy(first.port) as name:
        app = make_app(database_url=first.url.replace(f":{first.port}/", f":{name.port}/"))
        site = Site(app, first.url)
        someone = site.known()
        assert site.calls(1.2, someone) == {201}
        for _ in range(200):
            query(second.url, "SELECT pg_current_xact_id()")
        name.target = second.port
        first.kill()
        until(lambda: site.call(someone) == 401, seconds=5)
        with app.app_context():
            db.engine.dispose()


@pytest.mark.slow
def test_a_crash_ends_the_history(tmp_path: Path, make_app: Callable[..., Flask]) -> None:
    """With ``synchronous_commit = off`` it loses commits that others have seen."""
    with dev.Postgres(tmp_path, durable=False) as server:
        app = make_app(database_url=server.url)
        with app.app_context():
            flask_migrate.upgrade()
            before = callers.changes.look(None)
            assert before
            db.engine.dispose()
            with contextlib.closing(psycopg2.connect(server.url)) as connection:
                pid = connection.info.backend_pid
                subprocess.run(["/bin/kill", "-KILL", str(pid)], check=True)
            until(lambda: "reinitializing" in server.log.read_text())

            def is_back() -> bool:
                with contextlib.suppress(psycopg2.OperationalError):
                    return bool(query(server.url, "SELECT 1"))
                return False

            until(is_back)
            after = callers.changes.look(before)
            assert after
            assert after.server == before.server
            assert not after.follows(before)
            db.engine.dispose()


def test_what_is_recalled_is_fresh_and_costs_nothing(site: Site) -> None:
    """For a caller that is answered without a wait."""
    known: Callers = site.app.extensions["Callers"]
    stranger, someone = site.enrol(), site.known()
    with site.app.app_context():
        principals = [
            principal_of(one.headers["Authorization"].removeprefix("Bearer "))
            for one in (someone, stranger)
        ]
    with recorded(site.app, READS) as reads:
        recalled = known.recall(principals[0])
        assert recalled
        assert (recalled.id, recalled.correo) == (someone.id, someone.correo)
        assert known.recall(principals[1]) is None
    assert not reads
