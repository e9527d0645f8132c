"""Failover of Postgres: accounts are kept, and the pool finds the new primary by itself."""

from __future__ import annotations

import contextlib
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

import dev
from tests.stage.people import PASSWORD, enrol, new_correo
from tests.stage.proxy import Proxy
from tests.stage.readiness import readiness
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture import ledger
from tests.torture.ledger import trials
from tests.torture.outages import OK, SETTINGS, STALL_SECONDS, STALLED, Site
from tests.torture.replication import Pair, query
from tokenservice import postgres
from tokenservice.auth.jwts import Principal
from tokenservice.extensions import db

#: The outcomes of a stalled machine that a Postgres without a primary does not cause.
WITHOUT_POSTGRES = STALLED - {"database_unavailable"}


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, make_app: Callable[..., Flask]
) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("pair")) as running:
        app = make_app(database_url=running.primary.url)
        with app.app_context():
            flask_migrate.upgrade()
            db.engine.dispose()
        yield running


@contextlib.contextmanager
def meanwhile(*calls: Callable[[], object]) -> Iterator[None]:
    """Repeat each call in a thread of its own during the block."""
    over = threading.Event()

    def repeat(call: Callable[[], object]) -> None:
        while not over.wait(0.01):
            call()

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_no_account_is_lost_or_doubled_and_token_calls_succeed(
    pair: Pair, serve: Callable[..., Service], redis_server: dev.Redis
) -> None:
    """The service knows both hosts, which change places while accounts and tokens are created.

    An account with a 201 exists once; one with a 503 exists at most once.
    """
    settings = SETTINGS | {"database_url": pair.url(), "redis_timeout_ms": 2000}
    opened: list[str] = []
    used: Counter[str] = Counter()
    times = []
    with serve(web_concurrency=2, **settings) as service:
        site = Site(service)

        def open_account() -> None:
            correo = f"{len(opened)}.{secrets.token_hex(8)}@example.com"
            response = site.http.post(
                "/auth/register",
                json={"nombre": "Ana", "correo": correo, "password": PASSWORD},
                headers={"X-Forwarded-For": f"10.9.{len(opened) >> 8}.{len(opened) & 255}"},
            )
            assert response.status_code in (201, 503)
            if response.status_code == 201:
                opened.append(correo)

        def use_token() -> None:
            created = site.settled("create", stalled=WITHOUT_POSTGRES)
            used[created.outcome] += 1
            token = created.body.get("token", "")
            used[site.settled("validate", token, stalled=WITHOUT_POSTGRES).outcome] += 1

        site.introduce()
        workers = service.workers()
        with contextlib.closing(site.http), meanwhile(open_account, use_token):
            for _ in range(trials(20)):
                time.sleep(0.5)
                pair.change_places()
                times.append(site.seconds_until_recovered())
        assert service.workers() == workers

    kept = query(pair.primary, "SELECT count(*) FROM users WHERE correo = ANY(%s)", opened)
    doubled = query(pair.primary, "SELECT count(*) - count(DISTINCT correo) FROM users")
    figures = f"all calls succeed at most {max(times):.2f} s after the old primary follows"
    ledger.record(
        "Postgres fails over: no confirmed account is lost or doubled",
        n=len(opened),
        failures=len(opened) - kept + doubled,
        figures=f"{len(times)} failovers; {figures}",
    )
    ledger.record(
        "Postgres fails over: token calls succeed",
        n=used.total(),
        failures=used.total() - used[OK],
        figures=f"{len(times)} failovers",
    )
    assert (kept, doubled) == (len(opened), 0)
    assert set(used) == {OK}
    assert max(times) < 2 + 4 * STALL_SECONDS


def test_an_account_that_a_standby_read_is_not_watched(
    pair: Pair, make_app: Callable[..., Flask]
) -> None:
    """A standby knows less than the primary, where all changes are seen.

    Guard: the server in ``Callers._read``.
    """
    with Proxy(pair.primary.port) as name:
        url = pair.primary.url.replace(f":{pair.primary.port}/", f":{name.port}/")
        app = make_app(database_url=url)
        first, someone = (enrol(app.test_client().post) for _ in range(2))
        known = "SELECT count(*) FROM users WHERE id = %s"
        until(lambda: query(pair.standby, known, someone.id) == 1)
        callers = app.extensions["Callers"]
        query(pair.standby, "SELECT pg_wal_replay_pause()")
        try:
            query(pair.primary, "UPDATE users SET is_active = false WHERE id = %s", someone.id)
            with app.app_context():
                callers.find(Principal(first.id))
                until(lambda: callers._watch.seen_at > -math.inf)  # It has looked at the primary.
                name.target = pair.standby.port
                db.engine.dispose()
                assert callers.find(Principal(someone.id)).is_active
                name.target = pair.primary.port
                db.engine.dispose()
                until(lambda: not callers.find(Principal(someone.id)).is_active)
                db.engine.dispose()
        finally:
            query(pair.standby, "SELECT pg_wal_replay_resume()")


@pytest.fixture
def pinned(pair: Pair, make_app: Callable[..., Flask]) -> Iterator[tuple[FlaskClient, Proxy]]:
    """A client whose pool keeps a standby, while the name of Postgres leads to the primary."""
    with Proxy(pair.standby.port) as name:
        url = pair.standby.url.replace(f":{pair.standby.port}/", f":{name.port}/")
        app = make_app(database_url=url)
        client = app.test_client()
        checks = {"postgres": "read-only", "schema": "ok", "redis": "ok"}
        until(lambda: client.get("/readyz").get_json()["checks"] == checks)
        assert register(client) == 503
        # It serves calls that only read, and thereby keeps a connection.
        login = {"correo": "nobody@example.com", "password": PASSWORD}
        assert client.post("/auth/login", json=login).status_code == 401
        name.target = pair.primary.port
        yield client, name
        with app.app_context():
            db.engine.dispose()


def register(client: FlaskClient) -> int:
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
    return client.post("/auth/register", json=account).status_code


def test_a_pool_leaves_a_demoted_server(pinned: tuple[FlaskClient, Any]) -> None:
    """A ping succeeds there. The first write fails, and the next finds the new primary.

    Guard: ``postgres.leave_read_only_server``.
    """
    client, _ = pinned
    statuses = [register(client) for _ in range(5)]
    ledger.record(
        "a pool that keeps a standby costs one refused write, and no restart",
        n=len(statuses) - 1,
        failures=len([status for status in statuses[1:] if status != 201]),
    )
    assert statuses == [503, 201, 201, 201, 201]


def test_a_probe_alone_restores_readiness(pinned: tuple[FlaskClient, Any]) -> None:
    """A service that gets no writes would keep its pool.

    Guard: ``probes.check_postgres``.
    """
    client, _ = pinned
    statuses = [readiness(client, "postgres").status_code for _ in range(3)]
    assert statuses == [503, 200, 200]


def test_without_the_guard_the_pool_stays(pinned: tuple[FlaskClient, Any]) -> None:
    client, _ = pinned
    with client.application.app_context():
        event.remove(db.engine, "handle_error", postgres.leave_read_only_server)
    assert {register(client) for _ in range(5)} == {503}
