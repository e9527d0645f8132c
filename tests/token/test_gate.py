"""The gate: the answers that proxies know, and what a stranger can do before it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.stage.callers import Caller
from tests.stage.keys import bearer, new_key
from tests.stage.people import Person, enrol
from tests.stage.problems import problem_in
from tests.stage.queries import recorded
from tests.stage.tokens import altered
from tokenservice.token import passes
from tokenservice.token.gate import ROOM

PURPOSE = "app.open"
TICKET = "X-One-Time-Token"


class Gate:
    """A proxy that asks, with a key of its own."""

    def __init__(self, client: FlaskClient, owner: Person, **fields: Any) -> None:
        self.client = client.application.test_client(use_cookies=False)
        self.owner = owner
        self.key = new_key(client.post, owner, scopes=["token:consume"], **fields)
        self.query: dict[str, Any] = {"purpose": PURPOSE, "issued_by": owner.correo}

    def ask(self, method: str = "GET", query: Any = None, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(
            "/token/gate",
            method=method,
            query_string=self.query | (query or {}),
            headers={**bearer(self.key["key"]), **named},
        )

    def refused(self, response: TestResponse, status: int, code: str) -> None:
        body = problem_in(response, status)
        assert (body["code"], response.headers["X-Token-Code"]) == (code, code)
        assert ("Retry-After" in response.headers) == (status == 503)


@pytest.fixture
def gate(client: FlaskClient, person: Person) -> Gate:
    return Gate(client, person)


@pytest.fixture
def issuer(client: FlaskClient, person: Person) -> Caller:
    return Caller(client, person)


def ticket(issuer: Caller, **terms: Any) -> str:
    return str(issuer.create(purpose=PURPOSE, **terms)["token"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "carried",
    [
        ("X_One_Time_Token", "{}"),
        ("Sec_WebSocket_Protocol", "ott, {}"),
        ("Sec_WebSocket_Protocol", "chat,ott,{}"),
        ("X_Original_URI", "/events?a=1&ticket={}"),
        ("X_Forwarded_Uri", "/file?ticket={}#x"),
    ],
)
def test_a_ticket_passes_once_from_each_place(
    gate: Gate, issuer: Caller, method: str, carried: tuple[str, str]
) -> None:
    name, form = carried
    made = issuer.create(purpose=PURPOSE, subject="María & 7")
    headers = {name: form.format(made["token"])}
    response = gate.ask(method, **headers)
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["X-Token-Id"] == made["id"]
    assert response.headers["X-Token-Subject"] == "Mar%C3%ADa%20%26%207"
    assert response.headers["X-Token-Issued-By"] == gate.owner.id
    assert response.headers["X-Token-Purpose"] == PURPOSE
    again = gate.ask(**headers)
    gate.refused(again, 403, "token_already_used")


def test_each_refusal_of_a_ticket_is_403_and_consumes_nothing(
    gate: Gate, issuer: Caller, client: FlaskClient, other: Person
) -> None:
    gate.refused(gate.ask(), 401, "ticket_missing")
    for nothing in ("ott", "ott,", "chat, graphql"):
        gate.refused(gate.ask(Sec_WebSocket_Protocol=nothing), 401, "ticket_missing")
    gate.refused(gate.ask(X_Original_URI="/a?b=ticket"), 401, "ticket_missing")
    gate.refused(gate.ask(X_One_Time_Token="ott_x"), 403, "token_malformed")
    text = ticket(issuer)
    gate.refused(gate.ask(X_One_Time_Token=altered(text, secret="0" * 28)), 403, "token_unknown")
    wrong = {"purpose": "app.close"}, {"issued_by": other.correo}, {"issued_by": other.id}
    for query in wrong:
        gate.refused(gate.ask(query=query, X_One_Time_Token=text), 403, "token_mismatch")
    assert gate.ask(X_One_Time_Token=text).status_code == 204
    not_for_it = ticket(issuer, audience=[other.id])
    gate.refused(gate.ask(X_One_Time_Token=not_for_it), 403, "token_not_for_caller")
    revoked = issuer.create(purpose=PURPOSE)
    assert client.delete(f"/token/{revoked['id']}", headers=gate.owner.headers).status_code == 204
    gate.refused(gate.ask(X_One_Time_Token=revoked["token"]), 403, "token_revoked")


def test_what_is_not_about_the_ticket_is_503(
    gate: Gate, issuer: Caller, client: FlaskClient, person: Person
) -> None:
    """A 403 would blame the visitor, and nginx makes a 500 of any other. Guard: ``gate.refuse``."""
    headers = {TICKET: ticket(issuer)}
    for credentials, code in (
        ({}, "not_authenticated"),
        (bearer("osk_x"), "key_invalid"),
        (bearer(new_key(client.post, person, scopes=["token:read"])["key"]), "insufficient_scope"),
    ):
        asked = client.get(
            "/token/gate", query_string=gate.query, headers={**headers, **credentials}
        )
        gate.refused(asked, 503, code)
    for query in (
        {"purpose": ""},
        {"issued_by": ""},
        {"pass_seconds": 301},
        {"issued_by": ["not an account"]},
    ):
        gate.refused(gate.ask(query=query, **headers), 503, "validation_failed")
    gate.refused(gate.ask(Idempotency_Key="ñ", **headers), 503, "validation_failed")
    narrow = Gate(client, person, purposes=["other.*"])
    narrow.refused(narrow.ask(**headers), 503, "purpose_not_allowed")
    narrow.refused(narrow.ask(), 503, "purpose_not_allowed")  # Its operator notices at once.
    assert gate.ask(**headers).status_code == 204


def test_a_repeat_of_the_proxy_passes_and_consumes_nothing(gate: Gate, issuer: Caller) -> None:
    text = ticket(issuer)
    for _ in range(3):
        response = gate.ask(X_One_Time_Token=text, Idempotency_Key="of-the-proxy")
        assert response.status_code == 204
    gate.refused(gate.ask(X_One_Time_Token=text), 403, "token_already_used")
    gate.refused(
        gate.ask(X_One_Time_Token=text, Idempotency_Key="of-another"), 403, "token_already_used"
    )
    other = ticket(issuer)
    gate.refused(
        gate.ask(X_One_Time_Token=other, Idempotency_Key="of-the-proxy"),
        403,
        "idempotency_mismatch",
    )


@pytest.mark.parametrize("limits", [{}, {"limits": {"validate": "5 per hour"}}])
def test_strangers_do_not_close_the_gate(make_app: Callable[..., Flask], limits: Any) -> None:
    """What is no good ticket spends no limit. Guard: ``limits.give_back``."""
    client = make_app(rate_limit_validate="5 per hour").test_client()
    person = enrol(client.post)
    gate, issuer = Gate(client, person, **limits), Caller(client, person)
    made = issuer.create(purpose=PURPOSE)
    bad = {
        "token_malformed": "ott_",
        "token_unknown": altered(made["token"], secret="0" * 28),
        "token_lost": altered(made["token"], secret="0" * 28, epoch="0000"),
    }
    for _ in range(5):
        for code, text in bad.items():
            for _ in range(3):
                gate.refused(gate.ask(X_One_Time_Token=text), 403, code)
        gate.refused(gate.ask(), 401, "ticket_missing")
        assert gate.ask(X_One_Time_Token=made["token"]).status_code == 204
        bad["token_already_used"] = made["token"]
        made = issuer.create(purpose=PURPOSE)
    gate.refused(gate.ask(X_One_Time_Token=made["token"]), 503, "rate_limited")
    unlimited = Caller(make_app().test_client(), person)
    assert unlimited.receipt(made["id"])["state"] == "active"


def test_data_that_fit_into_a_header_are_passed_on_and_others_consume_nothing(
    gate: Gate, issuer: Caller
) -> None:
    query = {"data": 1, "pass_seconds": 60}
    longest = {"a": "é" * ((ROOM - 8) // 2)}
    text = ticket(issuer, data=longest, subject="😀" * 255)
    without = gate.ask(X_One_Time_Token=ticket(issuer, data=longest))
    assert "X-Token-Data" not in without.headers
    response = gate.ask(query=query, X_One_Time_Token=text)
    assert json.loads(base64.urlsafe_b64decode(response.headers["X-Token-Data"])) == longest
    assert len(response.headers["X-Token-Data"]) == 2048
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    assert len(cookie) < 4096
    again = gate.ask(query=query, Cookie=cookie)
    assert again.headers["X-Token-Data"] == response.headers["X-Token-Data"]
    assert "X-Token-Data" not in gate.ask(query=query, X_One_Time_Token=ticket(issuer)).headers

    text = ticket(issuer, data={"a": longest["a"] + "a"})
    refused = gate.ask(query=query, X_One_Time_Token=text)
    gate.refused(refused, 403, "token_mismatch")
    assert problem_in(refused, 403)["field"] == "data"
    assert gate.ask(X_One_Time_Token=text).status_code == 204


@pytest.mark.usefixtures("always_fresh")
def test_a_pass_admits_a_browser_without_a_second_consume(gate: Gate, issuer: Caller) -> None:
    made = issuer.create(purpose=PURPOSE, subject="María")
    headers, query = {TICKET: made["token"]}, {"pass_seconds": 60}
    response = gate.ask(query=query, **headers)
    assert response.status_code == 204
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-ott-")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=60"):
        assert attribute in cookie
    assert "Domain" not in cookie
    assert made["token"] not in cookie
    kept = {"Cookie": cookie.partition(";")[0]}
    for again in ({}, headers):
        with recorded(gate.client.application, own=True) as queries:
            passed = gate.ask(query=query, **kept, **again)
        assert passed.status_code == 204
        assert not queries
        for name in ("X-Token-Id", "X-Token-Subject", "X-Token-Issued-By", "X-Token-Purpose"):
            assert passed.headers[name] == response.headers[name]
        assert "Set-Cookie" not in passed.headers
    other = ticket(issuer)
    assert gate.ask(query=query, X_One_Time_Token=other, **kept).status_code == 204
    gate.refused(gate.ask(query=query, X_One_Time_Token=other, **kept), 403, "token_already_used")


def test_a_pass_is_for_its_caller_purpose_and_issuers_and_ends(
    gate: Gate,
    issuer: Caller,
    client: FlaskClient,
    person: Person,
    other: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard: ``passes.sign``, and the end in ``Passes.found``."""
    query = {"pass_seconds": 60}
    cookie = gate.ask(query=query, X_One_Time_Token=ticket(issuer)).headers["Set-Cookie"]
    name, _, value = cookie.partition(";")[0].partition("=")

    def is_admitted(door: Gate, value: str = value, **asked: Any) -> bool:
        given = {**query, **asked}
        purpose, issuers = given.get("purpose", PURPOSE), given.get("issued_by", person.correo)
        renamed = passes.Doorway("", purpose, (issuers,)).cookie
        return door.ask(query=given, Cookie=f"{renamed}={value}").status_code == 204

    assert is_admitted(gate)
    assert not is_admitted(Gate(client, person))  # another key of the same account
    assert not is_admitted(gate, purpose="app.close")
    assert not is_admitted(gate, issued_by=other.correo)
    payload, _, mac = value.partition(".")
    for changed in (mac, f"{payload}.", f".{mac}", f"{payload[:-4]}AAAA.{mac}", "é.é", f"{value}x"):
        assert not is_admitted(gate, changed), changed
    gate.refused(gate.ask(Cookie=f"{name}={value}"), 401, "ticket_missing")  # without pass_seconds
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 61)
    assert not is_admitted(gate)


def test_a_pass_outlives_a_change_of_the_secret_key(make_app: Callable[..., Flask]) -> None:
    old, new = "a" * 16 + "0123456789abcdefghijklmnop", "b" * 16 + "0123456789abcdefghijklmnop"
    client = make_app(secret_key=old).test_client()
    person = enrol(client.post)
    gate, query = Gate(client, person), {"pass_seconds": 60}
    cookie = gate.ask(query=query, X_One_Time_Token=ticket(Caller(client, person)))
    kept = {"Cookie": cookie.headers["Set-Cookie"].partition(";")[0]}
    for fallbacks, status in (((old,), 204), ((), 401)):
        changed = make_app(secret_key=new, secret_key_fallbacks=fallbacks)
        gate.client = changed.test_client(use_cookies=False)
        assert gate.ask(query=query, **kept).status_code == status
