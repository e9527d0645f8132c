"""Enumeration of accounts and tokens: neither a response nor its time reveals which exist.

The area under the ROC curve measures how well times distinguish two kinds of call: 0.5 is not at
all, 1 is always. It is the Mann-Whitney statistic over the product of both counts.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from flask import Flask
from sqlalchemy import text

from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.people import WRONG_PASSWORD as WRONG
from tests.stage.roc import areas
from tests.stage.service import Service
from tests.stage.waiting import served
from tests.torture import ledger
from tests.torture.caller import leave_closed
from tokenservice.extensions import db
from tokenservice.onetime.format import Reservation, Token, random_base62

N = ledger.trials(2000, least=40)
#: With 40 calls each on a shared machine, chance alone gives 0.6 and more.
AREA, TOKEN_AREA = (0.55, 0.60) if ledger.FULL else (0.80, 0.80)
Call = tuple[str, dict[str, Any]]


class Response(NamedTuple):
    """The response to one call, and its time in seconds."""

    status_code: int
    body: dict[str, Any]
    seconds: float


def interleaved(
    calls: dict[str, Call], n: int, post: Callable[[str, dict[str, Any]], Response]
) -> tuple[dict[str, list[float]], set[str]]:
    """Make each of ``calls`` ``n`` times, in random order; return times and responses."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    responses = set()
    for _ in range(n):
        for name in random.sample(list(calls), len(calls)):
            status, body, seconds = served(lambda call=calls[name]: post(*call))
            times[name].append(seconds)
            del body["request_id"]
            responses.add(json.dumps([status, body], sort_keys=True))
    return times, responses


class Wire:
    """One persistent connection, so that only the response takes time."""

    def __init__(self, service: Service, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        self._headers = {"Content-Type": "application/json", **headers}

    def post(self, path: str, body: dict[str, Any]) -> Response:
        payload = json.dumps(body)
        started = time.perf_counter()
        leave_closed(self._connection)
        self._connection.request("POST", path, payload, self._headers)
        response = self._connection.getresponse()
        received = response.read()
        seconds = time.perf_counter() - started
        return Response(response.status, json.loads(received), seconds)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def alone(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=1, access_token_expire_minutes=1440) as service:
        yield service


def three(app: Flask, post: Callable[..., Any]) -> tuple[Person, Person, Person]:
    """A person, one with a disabled account, and one with a hash of other parameters."""
    known, disabled, old = enrol(post), enrol(post), enrol(app.test_client().post)
    with app.app_context(), db.engine.begin() as connection:
        statement = text("UPDATE users SET is_active = false WHERE id = :id")
        connection.execute(statement, {"id": disabled.id})
    return known, disabled, old


def logins(known: Person, disabled: Person, old: Person) -> dict[str, Call]:
    return {
        name: ("/auth/login", {"correo": correo, "password": password})
        for name, correo, password in (
            ("a wrong password", known.correo, WRONG),
            ("nobody's correo", new_correo(), WRONG),
            ("a disabled account", disabled.correo, PASSWORD),
            ("a disabled account, wrong password", disabled.correo, WRONG),
            ("an old hash", old.correo, WRONG),
        )
    }


def described(found: dict[str, float]) -> str:
    return "areas " + ", ".join(f"{value:.3f} ({name})" for name, value in found.items())


def test_a_login_does_not_reveal_accounts(app: Flask, alone: Service) -> None:
    """ASVS 5.0 V6.3.8. Guard: the stand-in in ``Passwords._verify``, and one response for all."""
    with httpx.Client(base_url=alone.url, timeout=30) as client:
        calls = logins(*three(app, client.post))
    with Wire(alone, {}) as wire:
        times, responses = interleaved(calls, N, wire.post)
    found = areas(times)
    ledger.record(
        "A refused login does not reveal, by response or time, whether the account exists",
        n=N * len(times),
        failures=len(responses) - 1 + sum(value > AREA for value in found.values()),
        figures=described(found),
    )
    assert len(responses) == 1, responses
    assert max(found.values()) <= AREA, described(found)


def test_a_login_without_a_stand_in_is_noticed(app: Flask, make_app: Callable[..., Flask]) -> None:
    """The twin: without a hash to verify in place of a missing account, the time reveals it."""
    unguarded = make_app(argon2_memory_kib=19_456)
    client = unguarded.test_client()

    def post(path: str, body: dict[str, Any]) -> Response:
        unguarded.extensions["Passwords"]._stand_ins = {}
        started = time.process_time()
        response = client.post(path, json=body)
        seconds = time.process_time() - started
        return Response(response.status_code, response.get_json(), seconds)

    times, _ = interleaved(logins(*three(app, client.post)), 12, post)
    assert areas(times)["nobody's correo"] > 0.8


def unusable(wire: Wire) -> tuple[dict[str, Call], dict[str, Call]]:
    """Tokens and reservations with wrong secrets, which must reveal nothing."""

    def post(verb: str, **body: Any) -> dict[str, Any]:
        return dict(served(lambda: wire.post(f"/token/{verb}", body)).body)

    created, used, held = (post("create", expires_in=86_400) for _ in range(3))
    post("validate", token=used["token"])
    post("reserve", token=held["token"], lease_seconds=60)
    genuine = Token.parse(created["token"])

    def made_up(token_id: str) -> str:
        return str(Token(token_id, genuine.epoch, random_base62(28)))

    def reservation_of(token_id: str) -> str:
        parts = (token_id, genuine.epoch, random_base62(14), random_base62(28))
        return str(Reservation(*parts))

    ids = {
        "nobody's id": genuine.id[:2] + random_base62(16),
        "a wrong secret": genuine.id,
        "a wrong secret of a used one": used["id"],
        "a wrong secret of a reserved one": held["id"],
    }
    tokens = {name: ("/token/validate", {"token": made_up(id_)}) for name, id_ in ids.items()}
    reservations = {
        name: ("/token/commit", {"reservation": reservation_of(id_)}) for name, id_ in ids.items()
    }
    return tokens, reservations


def test_a_made_up_token_does_not_reveal_existing_ones(alone: Service, person: Person) -> None:
    """RFC 7662 section 4. Guards: ``turned_away`` in judge.lua, and ``TokenStore._held``."""
    with Wire(alone, person.headers) as wire:
        kinds = unusable(wire)
        measured = [interleaved(calls, N, wire.post) for calls in kinds]
    for (times, responses), what in zip(measured, ("token", "reservation"), strict=True):
        found = areas(times)
        ledger.record(
            f"A made-up {what} has the same response and time whether or not its id exists",
            n=N * len(times),
            failures=len(responses) - 1 + sum(value > TOKEN_AREA for value in found.values()),
            figures=described(found),
        )
        assert len(responses) == 1, responses
        assert max(found.values()) <= TOKEN_AREA, described(found)
