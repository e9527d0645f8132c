"""The end of a service key: on every worker, and while Postgres is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import flask_migrate
import httpx
import pytest
from flask import Flask
from sqlalchemy import text

import dev
from tests.stage.keys import bearer, new_key
from tests.stage.people import Person, enrol
from tests.stage.problems import problem_in
from tests.stage.queries import query
from tests.stage.service import Service
from tokenservice.auth.callers import Callers
from tokenservice.auth.rights import KeyText
from tokenservice.extensions import db

CHANGES = {
    "revoked by a call": "",
    "revoked": "UPDATE service_keys SET revoked_at = now() WHERE id = '{id}'",
    "deleted": "DELETE FROM service_keys WHERE id = '{id}'",
    "disabled": "UPDATE users SET is_active = false WHERE id = '{user_id}'",
    "account deleted": "DELETE FROM users WHERE id = '{user_id}'",
}
LESS = "UPDATE service_keys SET {change} WHERE id = '{id}'"


@pytest.fixture(scope="module")
def workers(serve: Callable[..., Service]) -> Iterator[httpx.Client]:
    """Two workers, any of which may serve a call: each call has a connection of its own."""
    with (
        serve(web_concurrency=2) as service,
        httpx.Client(base_url=service.url, headers={"Connection": "close"}, timeout=30) as http,
    ):
        yield http


def token_of(http: httpx.Client, key: str) -> str:
    form = {"grant_type": "client_credentials", "client_secret": key}
    return str(http.post("/auth/token", data=form).json()["access_token"])


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_key_that_ended_is_out_within_two_seconds_on_every_worker(
    workers: httpx.Client, postgres: dev.Postgres, change: str
) -> None:
    """The key and its JWT. Guard: the triggers of migration 0003, and ``Callers._learn``."""
    person = enrol(workers.post)
    made, same = new_key(workers.post, person), new_key(workers.post, enrol(workers.post))
    credentials = [made["key"], token_of(workers, made["key"])]
    for _ in range(30):
        for one in (*credentials, same["key"]):
            assert workers.post("/token/create", headers=bearer(one)).status_code == 201
    if sql := CHANGES[change]:
        query(postgres.url, sql.format(id=made["id"], user_id=person.id))
    else:
        path = f"/auth/keys/{made['id']}"
        assert workers.delete(path, headers=person.headers).status_code == 204
    time.sleep(2)
    for _ in range(30):
        for one in credentials:
            response = workers.post("/token/create", headers=bearer(one))
            problem_in(response, 401, "key_invalid")
        assert workers.post("/token/create", headers=bearer(same["key"])).status_code == 201


@pytest.mark.slow
def test_less_rights_hold_within_two_seconds_on_every_worker(
    workers: httpx.Client, postgres: dev.Postgres
) -> None:
    """By hand: the API changes no key."""
    made = new_key(workers.post, enrol(workers.post))
    jwt = token_of(workers, made["key"])
    for change, code in {
        "scopes = 'token:read'": "insufficient_scope",
        "scopes = 'token:create', purposes = 'pay'": "purpose_not_allowed",
        "purposes = '', cidrs = '192.0.2.0/24'": "key_invalid",
        "cidrs = '', limit_create = '1 per hour'": "rate_limited",
    }.items():
        query(postgres.url, LESS.format(change=change, id=made["id"]))
        time.sleep(2)
        workers.post("/token/create", headers=bearer(made["key"]))
        for _ in range(20):
            for one in (made["key"], jwt):
                problem_in(workers.post("/token/create", headers=bearer(one)), code=code)


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[dev.Postgres]:
    with dev.Postgres(tmp_path, durable=False) as server:
        yield server


@pytest.mark.slow
def test_keys_seen_lately_serve_during_an_outage_of_postgres(
    own_postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Others get a 503, whether they exist or not, and nobody for longer than five minutes.

    Guard: the age in ``Callers.find``.
    """
    app = make_app(database_url=own_postgres.url)
    app.extensions["Callers"] = known = Callers(stale_seconds=60)
    with app.app_context():
        flask_migrate.upgrade()
    client = app.test_client()
    person = enrol(client.post)
    seen, unseen = (new_key(client.post, person)["key"] for _ in "ab")
    form = {"grant_type": "client_credentials", "client_secret": seen}
    jwt = client.post("/auth/token", data=form).get_json()["access_token"]

    def status(credentials: str) -> int:
        return client.post("/token/create", headers=bearer(credentials)).status_code

    assert {status(seen), status(jwt)} == {201}
    own_postgres.stop()
    for pause in (0, 1.6):
        time.sleep(pause)
        assert {status(seen), status(jwt)} == {201}
    forged = str(KeyText(KeyText.parse(seen).id, KeyText.new().secret))
    assert status(unseen) == 503
    assert status(str(KeyText.new())) == 503
    assert status(forged) in (401, 503)
    assert client.post("/auth/token", data=form).status_code == 200
    known._stale_seconds = 1.0
    assert {status(seen), status(jwt)} == {503}

    own_postgres.start()
    deadline = time.monotonic() + 10
    while status(seen) != 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # What was last known does not outlive the outage.
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("UPDATE service_keys SET revoked_at = now()"))
    time.sleep(2)
    assert {status(seen), status(jwt), status(unseen)} == {401}
    with app.app_context():
        db.engine.dispose()


def test_an_expired_key_ends_without_any_notice(app: Flask, person: Person) -> None:
    """Guard: ``Key.is_current``, and the end of verified credentials."""
    client = app.test_client()

    def served() -> list[str]:
        """A new key and its JWT if both serve before they expire, or else nothing."""
        key = new_key(client.post, person, expires_in=2)["key"]
        form = {"grant_type": "client_credentials", "client_secret": key}
        answer = client.post("/auth/token", data=form).get_json()
        assert answer.get("expires_in", 0) <= 2
        both = [key, answer.get("access_token", "")]
        called = [client.post("/token/create", headers=bearer(one)).status_code for one in both]
        return both if called == [201, 201] else []

    both = served() or served() or served()  # A stall may be longer than a life.
    assert both
    time.sleep(2.1)
    for one in both:
        problem_in(client.post("/token/create", headers=bearer(one)), 401, "key_invalid")
    assert client.get("/auth/keys", headers=person.headers).get_json() == {"items": []}
