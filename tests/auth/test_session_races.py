"""Refresh, repeat, log-out and reuse at once, over processes: the row's lock decides."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from flask import Flask
from sqlalchemy import text

from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.queries import waits_for_a_lock
from tests.stage.racing import Connection, connected, race, request
from tests.stage.service import Service
from tests.stage.session_races import SPOILT, Round, rounds_of
from tests.stage.sessions import Login
from tests.stage.waiting import served, until
from tokenservice.auth.sessions import MOST
from tokenservice.extensions import db

ROUNDS = 12


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    """A new connection for each call, so that any worker may serve it."""
    headers = {"Connection": "close"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def someone(http: httpx.Client) -> Person:
    return enrol(http.post)


@pytest.fixture(scope="module")
def connections(service: Service) -> Iterator[list[Connection]]:
    with connected([service], 6) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Round))
def test_a_race_has_one_successor_or_none(
    kind: Round, http: httpx.Client, someone: Person, connections: list[Connection]
) -> None:
    """Guard: ``with_for_update`` in ``sessions.refresh``."""
    ended = []
    races = rounds_of(kind, ROUNDS, lambda: Login.of(http.post, someone), connections)
    for login, wrong, outcome in races:
        assert not wrong, wrong
        if outcome == "ended":
            ended.append(login)
    time.sleep(2)
    for login in ended:
        assert {login.status() for _ in range(6)} == {401}
        assert login.present().status_code == 401
    if kind is not Round.REFRESH:
        assert ended


def test_a_login_waits_for_a_change_of_its_password(app: Flask, http: httpx.Client) -> None:
    """Guard: the account's lock in ``sessions.start``, or the session outlives the change."""
    person = enrol(http.post)
    body = {"correo": person.correo, "password": PASSWORD}
    change = text("UPDATE users SET password_hash = 'another' WHERE id = :id")
    sessions = text("SELECT count(*) FROM sessions WHERE user_id = :id")
    with (
        app.app_context(),
        db.engine.connect() as changing,
        ThreadPoolExecutor() as pool,
    ):
        of_person = {"id": person.id}
        before = changing.scalar(sessions, of_person)
        changing.execute(change, of_person)
        # A 503 comes after too long a wait, and the next login waits again.
        login = pool.submit(served, lambda: http.post("/auth/login", json=body))
        until(lambda: waits_for_a_lock(app, "FOR NO KEY UPDATE"))
        changing.commit()
        assert login.result().status_code == 401
        assert changing.scalar(sessions, of_person) == before


@pytest.mark.slow
def test_logins_at_once_leave_no_more_than_the_most(
    app: Flask, http: httpx.Client, connections: list[Connection]
) -> None:
    """Guard: the account's lock in ``sessions.start``."""
    crowded = enrol(http.post)
    for _ in range(MOST):
        Login.of(http.post, crowded)
    body = {"correo": crowded.correo, "password": PASSWORD}
    logins = [request("/auth/login", crowded, body)] * len(connections)
    rounds = spoilt = 0
    while rounds < 5:
        statuses = Counter(response.status for response in race(connections, logins))
        if statuses[503]:
            spoilt += 1
            assert spoilt <= SPOILT
            continue
        rounds += 1
        assert statuses == {200: len(connections)}
    with app.app_context(), db.engine.connect() as connection:
        left = text("SELECT count(*) FROM sessions WHERE user_id = :id AND ended_at IS NULL")
        assert connection.scalar(left, {"id": crowded.id}) == MOST


def is_password(http: httpx.Client, person: Person, password: str) -> bool:
    body = {"correo": person.correo, "password": password}
    return served(lambda: http.post("/auth/login", json=body)).status_code == 200


@pytest.mark.slow
def test_no_login_with_the_old_password_outlives_its_change(
    http: httpx.Client, connections: list[Connection]
) -> None:
    """Guard: the hash in ``sessions.start``. Whoever guessed it would stay for 90 days."""
    person = enrol(http.post)
    old, rounds, spoilt = PASSWORD, 0, 0
    while rounds < 8:
        new = secrets.token_urlsafe(12)
        login = Login.of(http.post, person, old)
        headed = Person(person.id, person.correo, login.headers)
        logins = [request("/auth/login", headed, {"correo": person.correo, "password": old})] * 5
        change = request("/auth/password", headed, {"old": old, "new": new})
        found = race(connections, [*logins, change])
        if any(response.status == 503 for response in found):
            spoilt += 1
            assert spoilt <= SPOILT
            old = new if is_password(http, person, new) else old
            continue
        rounds += 1
        assert found[-1].status == 204
        for response in found[:-1]:
            assert response.status in (200, 401)
            if response.status == 200:
                late = Login(http.post, response.body["refresh_token"], "")
                assert late.present().status_code == 401
        assert login.refresh()
        old = new
