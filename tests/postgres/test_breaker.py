"""While Postgres does not respond, few requests wait for it, and the rest get a 503 at once."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

import psycopg2
import pytest
import redis
from flask import Flask, request_finished
from sqlalchemy import text
from werkzeug.test import TestResponse

import dev
from tests.stage.faults import locked
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.proxy import Proxy
from tests.stage.queries import recorded
from tests.stage.readiness import readiness
from tests.stage.waiting import until
from tokenservice.extensions import db
from tokenservice.ops import probes
from tokenservice.postgres import breaker, timeouts
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS, Breaker, asking

#: Shorter than a wait for a Postgres that does not respond.
LONG = 0.65


class Response(NamedTuple):
    """A response, and the seconds for which its request waited for Postgres: 0 if it never did.

    Not those on a clock: they are long for any request while the machine stalls.
    """

    status: int
    waited: float
    body: Any


class Site:
    """An app of eight threads, and the proxy on its way to Postgres."""

    def __init__(self, app: Flask, proxy: Proxy) -> None:
        self.app, self.proxy = app, proxy
        self.breaker: Breaker = app.extensions["Breaker"]
        self.looks: probes.Readiness = app.extensions["Readiness"]
        self._waited = threading.local()
        request_finished.connect(self._note, app)
        self.known = enrol(app.test_client().post)

    def _note(self, *_: object, **__: object) -> None:
        self._waited.seconds = timeouts.REQUEST_SECONDS - timeouts.patience.seconds

    def ask(self, method: str, path: str, **options: Any) -> Response:
        response: TestResponse = self.app.test_client().open(path, method=method, **options)
        assert response.status_code != 503 or response.headers["Retry-After"] == "1"
        body = response.get_json(silent=True)
        return Response(response.status_code, self._waited.seconds, body)

    def login(self) -> Response:
        return self.ask("POST", "/auth/login", json={"correo": new_correo(), "password": PASSWORD})

    def create(self, person: Person) -> Response:
        return self.ask("POST", "/token/create", headers=person.headers)

    def at_once(self, count: int, call: Callable[[], Response]) -> list[Response]:
        """Make ``count`` calls at the same moment."""
        start = threading.Barrier(count)

        def one(_: int) -> Response:
            start.wait(10)
            return call()

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(one, range(count)))

    def broken(self) -> None:
        """Make Postgres hang, and let one request fail."""
        self.proxy.hang()
        failed = self.login()
        assert failed.status == 503
        assert failed.waited > LONG

    @contextlib.contextmanager
    def untried(self) -> Iterator[None]:
        """After a failure: let no request try again in the block, however long that takes."""
        assert self.breaker._failed_at is not None
        failed_at, self.breaker._failed_at = self.breaker._failed_at, math.inf
        yield
        self.breaker._failed_at = failed_at

    def age_looks(self, seconds: float) -> None:
        """Make the last looks of the probes so much older."""
        for look in (self.looks.postgres, self.looks.redis):
            look._began_at -= seconds
            look._seen_at -= seconds


def those_that_waited(responses: list[Response]) -> list[Response]:
    return [response for response in responses if response.waited]


@pytest.fixture
def site(app: Flask, postgres: dev.Postgres, make_app: Callable[..., Flask]) -> Iterator[Site]:
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        made = make_app(database_url=url, web_threads=8)
        yield Site(made, proxy)
        proxy.mend()
        with made.app_context():
            db.engine.dispose()


def test_no_route_waits_for_a_postgres_that_just_failed(site: Site) -> None:
    """Every route uses ``breaker.asking``. Guard: the refusal in ``Breaker._take_place``."""
    stranger = enrol(site.app.test_client().post)
    assert site.create(site.known).status == 201
    site.broken()
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
    with site.untried():
        refused = [site.login(), site.ask("POST", "/auth/register", json=account)]
        refused.append(site.create(stranger))
        for response in refused:
            assert (response.status, response.body["code"]) == (503, "database_unavailable")
            assert not response.waited
        for rule in site.app.url_map.iter_rules():
            url = rule.build(dict.fromkeys(rule.arguments, "x" * 18), append_unknown=False)
            assert url
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                if rule.endpoint not in {"ops.readyz", "ops.readyz_postgres", "ops.metrics"}:
                    response = site.ask(method, url[1], headers=site.known.headers)
                    assert not response.waited, (method, rule.rule)
                    assert response.status != 500


def test_one_request_at_a_time_tries_again(site: Site) -> None:
    """Guard: the trial of ``Breaker``."""
    site.broken()
    time.sleep(TRY_AGAIN_SECONDS)
    responses = site.at_once(6, site.login)
    assert {response.status for response in responses} == {503}
    assert len(those_that_waited(responses)) == 1


def test_a_crowd_after_an_outage_waits_for_the_trial(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: ``breaker.TRIAL_SECONDS``, longer here for a busy machine. No request came since."""
    monkeypatch.setattr(breaker, "TRIAL_SECONDS", 10)
    site.broken()
    site.proxy.mend()
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 9)
    time.sleep(TRY_AGAIN_SECONDS)
    assert {response.status for response in site.at_once(4, site.login)} == {401}


def test_an_outage_is_over_soon_after_postgres_is_back(site: Site) -> None:
    """By itself, and for a cached account too."""
    tried: list[Response] = []

    def is_back() -> bool:
        tried.append(site.login())
        return tried[-1].status == 401

    for fault in (site.proxy.hang, site.proxy.refuse):
        fault()
        assert site.login().status == 503
        site.proxy.mend()
        tried.clear()
        until(is_back, seconds=1)
        assert len(those_that_waited(tried)) <= 2  # One in vain, if the machine stalls.
        assert site.ask("GET", "/auth/me", headers=site.known.headers).status == 200


def test_a_quarter_of_the_threads_waits_and_the_others_are_refused(site: Site) -> None:
    """Also before the first one has failed. Guard: the places of ``Breaker``."""
    assert site.login().status == 401
    site.proxy.hang()
    responses = site.at_once(8, site.login)
    assert {response.status for response in responses} == {503}
    assert len(those_that_waited(responses)) == 2


def test_after_a_standstill_no_request_waits_for_a_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the time of the last move in ``Breaker._take_place``."""
    monkeypatch.setattr(breaker, "STANDSTILL_SECONDS", 10)
    with contextlib.ExitStack() as held:
        for _ in range(site.breaker.places):
            held.enter_context(site.breaker.asking(0))
        site.breaker._moved_at -= 10
        started = time.monotonic()
        assert site.login().status == 503
        assert time.monotonic() - started < 9


def test_a_place_freed_by_a_failure_is_not_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three waits for a place until then. Guard: the last check of ``_take_place``."""
    monkeypatch.setattr(breaker, "STANDSTILL_SECONDS", 10)
    site.proxy.hang()
    assert len(those_that_waited(site.at_once(3, site.login))) == 2


@pytest.mark.usefixtures("patient")
def test_a_short_wait_for_a_place_is_no_refusal(site: Site) -> None:
    """Postgres is slow, but responds. Guard: the wait in ``Breaker._take_place``."""
    assert site.login().status == 401
    site.proxy.slow(0.02)
    assert {response.status for response in site.at_once(4, site.login)} == {401}


@pytest.mark.usefixtures("patient")
def test_a_crowd_of_one_caller_queries_once_for_each_place(site: Site) -> None:
    """Guard: the second look into the cache in ``Callers.find``."""
    stranger = enrol(site.app.test_client().post)
    site.proxy.slow(0.02)
    with recorded(site.app, "SELECT users") as seen:
        responses = site.at_once(8, lambda: site.create(stranger))
    assert {response.status for response in responses} == {201}
    assert 1 <= len(seen) <= 2


@pytest.mark.usefixtures("patient")
def test_a_registration_in_progress_is_no_outage(site: Site, postgres: dev.Postgres) -> None:
    """Another transaction locks the new row, and no other row.

    Guard: ``breaker.is_away``.
    """
    correo = new_correo()
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    with contextlib.closing(psycopg2.connect(postgres.url)) as elsewhere:
        elsewhere.cursor().execute(
            "INSERT INTO users (id, nombre, correo, password_hash) "
            "VALUES (gen_random_uuid(), 'Ana', %s, '')",
            [correo],
        )
        waited = site.ask("POST", "/auth/register", json=account)
        assert (waited.status, waited.body["code"]) == (503, "database_unavailable")
        assert site.login().status == 401
    assert site.ask("POST", "/auth/register", json=account).status == 201


@pytest.mark.usefixtures("patient")
def test_locked_accounts_hold_one_request_and_leave_the_service_ready(
    site: Site, postgres: dev.Postgres
) -> None:
    with locked(SimpleNamespace(postgres=postgres)):
        assert site.login().waited > LONG
        with site.untried():
            assert not site.login().waited
            assert readiness(site.app.test_client(), "postgres").status_code == 200
    until(lambda: site.login().status == 401, seconds=1)


@pytest.mark.usefixtures("patient")
def test_a_lock_on_another_table_is_no_outage(site: Site, postgres: dev.Postgres) -> None:
    """Only /readyz reads it. Guard: ``breaker.is_away``."""
    with contextlib.closing(psycopg2.connect(postgres.url)) as elsewhere:
        elsewhere.cursor().execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        assert readiness(site.app.test_client(), "postgres").status_code == 503
        assert site.login().status == 401


def test_no_connection_is_held_after_asking(site: Site) -> None:
    """Least of all after a transaction that failed. Guard: ``finally`` in ``breaker.asking``."""
    with site.app.test_request_context():
        for query in ("SELECT 1", "INSERT INTO nowhere VALUES (1)"):
            with contextlib.suppress(Exception), asking():
                db.session.execute(text(query))
            assert db.engine.pool.checkedout() == 0


# /readyz.


def test_one_request_waits_for_the_first_look(site: Site) -> None:
    """Its response is true, the others report that nothing is known. Guard: ``Look``."""
    site.proxy.hang()
    responses = site.at_once(8, lambda: site.ask("GET", "/readyz/postgres"))
    assert {response.status for response in responses} == {503}
    [looked] = those_that_waited(responses)
    assert looked.body["checks"] == {"postgres": "unavailable", "schema": "unknown"}
    unknown = {"postgres": "unknown", "schema": "unknown"}
    others = [response.body["checks"] for response in responses if response is not looked]
    assert unknown in others
    # One that a stall delays comes after the look.
    assert all(checks in (unknown, looked.body["checks"]) for checks in others)


def test_requests_are_welcome_while_a_look_takes_long(site: Site, redis_server: dev.Redis) -> None:
    """Of many probes at once each gets the last decision. Guard: ``last`` in ``readyz``."""
    assert site.ask("GET", "/readyz").status == 200
    site.age_looks(1.5)
    site.proxy.slow(0.1)
    with redis.from_url(redis_server.url) as admin:
        admin.client_pause(1500)
    responses = site.at_once(8, lambda: site.ask("GET", "/readyz"))
    assert {response.status for response in responses} == {200}
    assert "unknown" in {response.body["checks"]["redis"] for response in responses}


def test_requests_are_welcome_while_postgres_hangs(site: Site) -> None:
    assert site.ask("GET", "/readyz").status == 200
    site.proxy.hang()
    for _ in range(2):
        assert {a.status for a in site.at_once(8, lambda: site.ask("GET", "/readyz"))} == {200}
        site.age_looks(1.5)


@pytest.mark.usefixtures("patient")
def test_a_postgres_that_hangs_delays_no_look_at_redis(site: Site) -> None:
    """Guard: a look of its own for each store."""
    site.proxy.hang()
    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(site.ask, "GET", "/readyz/postgres")
        until(site.looks.postgres._looking.locked)
        response = site.ask("GET", "/readyz/redis")
        assert not looking.done()
        site.proxy.mend()
    assert (response.status, response.body["checks"]) == (200, {"redis": "ok"})


def test_the_last_look_is_reported_during_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "OLD_SECONDS", 60)
    assert site.ask("GET", "/readyz/postgres").status == 200
    site.proxy.hang()
    site.age_looks(probes.LOOK_AGAIN_SECONDS)
    responses = site.at_once(8, lambda: site.ask("GET", "/readyz/postgres"))
    assert sorted(response.status for response in responses) == [200] * 7 + [503]
    [looked] = those_that_waited(responses)
    assert looked.status == 503
    assert {a.status for a in site.at_once(8, lambda: site.ask("GET", "/readyz/postgres"))} == {503}


def test_an_old_look_is_not_reported(site: Site) -> None:
    """Guard: ``probes.OLD_SECONDS``."""
    assert site.ask("GET", "/readyz/postgres").status == 200
    site.proxy.hang()
    site.age_looks(1.5)
    assert {a.status for a in site.at_once(8, lambda: site.ask("GET", "/readyz/postgres"))} == {503}


@pytest.mark.usefixtures("patient")
def test_a_crowd_at_readyz_is_one_look(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "LONG_LOOK_SECONDS", 20)  # All wait for the first look.
    with recorded(site.app, "SHOW") as looks:
        started = time.monotonic()
        for _ in range(5):
            responses = site.at_once(8, lambda: site.ask("GET", "/readyz/postgres"))
            assert {response.status for response in responses} == {200}
        seconds = time.monotonic() - started
    assert len(looks) <= 1 + seconds / probes.LOOK_AGAIN_SECONDS


def test_a_failed_look_spares_the_callers(site: Site) -> None:
    """Guard: ``learn`` in ``probes.check_postgres``."""
    site.proxy.hang()
    assert site.ask("GET", "/readyz/postgres").status == 503
    with site.untried():
        assert not site.login().waited
