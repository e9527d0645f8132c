"""Service keys: how people make, list and revoke them, and what a key may then do."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text
from werkzeug.test import TestResponse

from tests.stage.callers import always_fresh
from tests.stage.catalogue import FOR_PEOPLE, FOR_PROXIES, PUBLIC, SCOPES
from tests.stage.doors import always_near, open_door
from tests.stage.keys import altered, bearer, new_key
from tests.stage.people import Person, enrol
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.queries import execute, recorded
from tests.stage.waiting import until
from tokenservice.auth import callers, keys, rights
from tokenservice.auth.rights import KeyText
from tokenservice.extensions import db
from tokenservice.onetime.errors import TokenMalformed

KEY = re.compile(r"osk_[0-9A-Za-z]{52}")
FIELDS = {
    *("id", "name", "scopes", "purposes", "cidrs", "limits", "own_quota"),
    *("created_at", "expires_at", "last_used_on"),
}
READS = "SELECT users"


def create(client: FlaskClient, key: str, **body: Any) -> TestResponse:
    return client.post("/token/create", json=body, headers=bearer(key))


def test_a_key_is_shown_once_and_opens_calls(client: FlaskClient, person: Person) -> None:
    made = new_key(client.post, person, name=" billing ", purposes=["ws.*"], expires_in=60)
    assert set(made) == {"key", *FIELDS}
    assert KEY.fullmatch(made["key"])
    assert made["key"][4:22] == made["id"]
    assert made["name"] == "billing"
    listed = client.get("/auth/keys", headers=person.headers)
    assert listed.headers["Cache-Control"] == "no-store"
    [item] = listed.get_json()["items"]
    assert item == {name: value for name, value in made.items() if name != "key"}
    created = create(client, made["key"], purpose="ws.connect")
    assert created.status_code == 201
    token = created.get_json()["token"]
    presented = {"token": token, "purpose": "ws.connect"}
    validated = client.post("/token/validate", json=presented, headers=bearer(made["key"]))
    assert validated.get_json()["issued_by"] == person.id


def test_only_a_hash_is_kept(app: Flask, client: FlaskClient, person: Person) -> None:
    """Guard: ``KeyText.verifier`` in ``keys.open_key``."""
    made = new_key(client.post, person)
    parsed = KeyText.parse(made["key"])
    assert parsed.secret not in repr(parsed)
    row = text("SELECT service_keys::text, secret_hash FROM service_keys WHERE id = :id")
    with app.app_context(), db.engine.connect() as connection:
        written, kept = connection.execute(row, {"id": made["id"]}).one()
    assert bytes(kept) == parsed.verifier
    assert parsed.secret not in written
    assert parsed.secret.encode().hex() not in written


def test_a_revoked_key_is_gone_and_may_be_revoked_again(
    client: FlaskClient, person: Person, other: Person
) -> None:
    """Guard: the owner in the condition of ``keys.revoke_key``."""
    made = new_key(client.post, person)
    path = f"/auth/keys/{made['id']}"
    problem_in(client.delete(path, headers=other.headers), 404, "not_found")
    assert create(client, made["key"]).status_code == 201
    for _ in range(2):
        assert client.delete(path, headers=person.headers).status_code == 204
    assert client.get("/auth/keys", headers=person.headers).get_json() == {"items": []}
    until(lambda: create(client, made["key"]).status_code == 401, seconds=3)
    unknown = client.delete(f"/auth/keys/{'0' * 18}", headers=person.headers)
    problem_in(unknown, 404, "not_found")


def test_a_key_opens_no_account_route_and_makes_no_keys(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    """Default deny: a view without a scope. Guard: ``demand_scope`` in ``authenticate``."""
    made = new_key(client.post, person)
    asked = 0
    for rule in app.url_map.iter_rules():
        if rule.endpoint in FOR_PEOPLE:
            path = rule.rule.replace("<key_id:key_id>", made["id"])
            path = path.replace("<uuid:session_id>", str(uuid.UUID(int=0)))
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                response = client.open(path, method=method, headers=bearer(made["key"]))
                problem_in(response, 403, "insufficient_scope")
                challenge = 'Bearer error="insufficient_scope"'
                assert response.headers.getlist("WWW-Authenticate") == [challenge]
                asked += 1
    assert asked == len(FOR_PEOPLE)


def test_every_route_has_a_scope_or_is_for_people(app: Flask) -> None:
    """Red for a new route that is in none of the lists of tests/stage/catalogue.py."""
    views = app.view_functions.items()
    assert {name: view.scope for name, view in views if hasattr(view, "scope")} == SCOPES
    rest = {name for name, view in views if not hasattr(view, "scope")}
    assert rest == PUBLIC | FOR_PEOPLE
    assert set(SCOPES.values()) == set(rights.SCOPES)


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
def test_each_route_needs_its_scope_and_no_other(
    app: Flask, make_app: Callable[..., Flask], is_direct: bool
) -> None:
    """The table, made from the map of URLs, through both doors.

    Guard: ``demand_scope`` in ``plans.perform``.
    """
    own = make_app()
    person = enrol(own.test_client().post)
    all_but = {
        scope: new_key(
            own.test_client().post, person, scopes=[one for one in rights.SCOPES if one != scope]
        )["key"]
        for scope in rights.SCOPES
    }
    alone = {
        scope: new_key(own.test_client().post, person, scopes=[scope])["key"]
        for scope in rights.SCOPES
    }
    with always_near():
        door = open_door(own) if is_direct else None
        client = own.test_client()
        asked = 0
        for rule in own.url_map.iter_rules():
            scope = SCOPES.get(rule.endpoint)
            if scope is None or rule.endpoint in FOR_PROXIES:  # See tests/token/test_gate.py.
                continue
            path = rule.rule.replace("<token_id:token_id>", "0" * 18)
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                refused = client.open(path, method=method, headers=bearer(all_but[scope]))
                problem_in(refused, 403, "insufficient_scope")
                challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
                assert refused.headers.getlist("WWW-Authenticate") == [challenge]
                passed = client.open(path, method=method, headers=bearer(alone[scope]))
                assert passed.status_code not in (401, 403), (path, passed.text)
                asked += 1
    assert asked == len(SCOPES.keys() - FOR_PROXIES)
    if door:
        assert door.passed["direct"] == 2 * asked


CONSUMES = ("create", "batch", "validate", "reserve")


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
def test_a_key_of_some_purposes_creates_and_consumes_no_others(
    app: Flask, make_app: Callable[..., Flask], is_direct: bool
) -> None:
    """Guard: ``demand_purpose`` in ``plans.perform``, and ``rights.covers``."""
    own = make_app()
    person = enrol(own.test_client().post)
    key = new_key(own.test_client().post, person, purposes=["pay", "ws.*"])["key"]
    with always_near():
        if is_direct:
            open_door(own)
        client = own.test_client()

        def status(verb: str, purpose: str | None) -> tuple[int, str]:
            body: dict[str, Any] = {} if purpose is None else {"purpose": purpose}
            if verb == "batch":
                body["count"] = 1
            if verb in ("validate", "reserve"):
                token = client.post("/token/create", json=body, headers=person.headers)
                body["token"] = token.get_json()["token"]
            response = client.post(f"/token/{verb}", json=body, headers=bearer(key))
            return response.status_code, response.get_json().get("code", "")

        for verb in CONSUMES:
            for purpose in ("pay", "ws.", "ws.connect"):
                assert status(verb, purpose)[0] in (200, 201), (verb, purpose)
            for refused in (None, "payment", "pa", "ws", "x.ws.connect", "w"):
                assert status(verb, refused) == (403, "purpose_not_allowed"), (verb, refused)


def test_a_malformed_body_is_refused_as_such_and_not_run(
    client: FlaskClient, person: Person
) -> None:
    """Its purpose is not known, and it reaches no function."""
    key = new_key(client.post, person, purposes=["pay"])["key"]
    for body in ('{"purpose": "A"}', "{", "[]"):
        response = client.post(
            "/token/create", data=body, content_type="application/json", headers=bearer(key)
        )
        assert problem_in(response)["code"] in ("validation_failed", "not_json")


def test_a_key_that_any_purpose_suits_needs_one(client: FlaskClient, person: Person) -> None:
    key = new_key(client.post, person, purposes=["*"])["key"]
    assert create(client, key, purpose="any").status_code == 201
    problem_in(create(client, key), 403, "purpose_not_allowed")


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_a_key_comes_from_its_networks_alone(
    app: Flask, make_app: Callable[..., Flask], proxies: int, is_direct: bool
) -> None:
    """By the address that the service believes, through both doors.

    Guards: ``is_from_its_network``, and ``admits`` in ``Door.enter``.
    """
    own = make_app(trusted_proxies=proxies)
    client = own.test_client()
    person = enrol(client.post)
    key = new_key(client.post, person, cidrs=["192.0.2.0/24", "2001:db8::/32"])["key"]
    door = open_door(own) if is_direct else None

    def status(address: str, forwarded: str = "203.0.113.9") -> int:
        seen = {"REMOTE_ADDR": address, "HTTP_X_FORWARDED_FOR": forwarded}
        if proxies:
            others = [forwarded, address, *["198.51.100.1"] * (proxies - 1)]
            seen = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": ", ".join(others)}
        headers = bearer(key)
        response = client.post("/token/create", headers=headers, environ_overrides=seen)
        if response.status_code == 401:
            problem_in(response, 401, "key_invalid")
        return response.status_code

    with always_near():
        for inside in ("192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "192.0.2.7"):
            # In turn, so that neither outcome is remembered for the other.
            assert status(inside) == 201
            assert status("198.51.100.7", forwarded="192.0.2.7") == 401
        if door:
            assert (door.passed["direct"], door.passed["flask"]) == (3, 5)
        for unknown in ("2001:db9::1", "", "not an address", "192.0.2.7, 1.2.3.4"):
            assert status(unknown) == 401, unknown


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
def test_a_limit_of_its_own_is_below_that_of_the_account(
    app: Flask, make_app: Callable[..., Flask], is_direct: bool
) -> None:
    """Guard: ``plans.count``. The account goes on counting, also for its other keys."""
    own = make_app(rate_limit_create="7 per hour")
    person = enrol(own.test_client().post)

    def key(**limits: str) -> str:
        return str(new_key(own.test_client().post, person, limits=limits)["key"])

    # Three calls, as people make keys under the same limit.
    small, large, none = key(create="2 per hour"), key(create="50 per hour"), key()
    with always_near():
        if is_direct:
            open_door(own)
        client = own.test_client()
        assert [create(client, small).status_code for _ in range(4)] == [201, 201, 429, 429]
        refused = create(client, small)
        assert refused.headers["RateLimit-Policy"] == '"key-create";q=2;w=3600'
        # What its own limit refused has not counted for the account: two calls are left.
        assert create(client, large).status_code == 201
        assert create(client, none).status_code == 201
        for text_ in (large, none):
            refused = create(client, text_)
            assert refused.status_code == 429
            assert refused.headers["RateLimit-Policy"] == '"create";q=7;w=3600'
        assert client.get("/token", headers=bearer(small)).status_code == 200


def test_an_account_has_at_most_100_keys_also_at_once(
    app: Flask,
    make_app: Callable[..., Flask],
    client: FlaskClient,
    person: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard: the lock in ``keys.open_key``. An expired and a revoked one take no place."""
    monkeypatch.setattr(keys, "MOST", 6)
    old, revoked = new_key(client.post, person, expires_in=1), new_key(client.post, person)
    execute(app, "UPDATE service_keys SET expires_at = now() WHERE id = :id", id=old["id"])
    client.delete(f"/auth/keys/{revoked['id']}", headers=person.headers)
    for _ in range(5):
        new_key(client.post, person)

    def stall(*call: Any) -> None:
        if call[2].startswith("SELECT count"):
            time.sleep(0.05)  # Time for another to count as well.

    clients = []
    for _ in range(4):
        own = make_app()
        with own.app_context():
            event.listen(db.engine, "after_cursor_execute", stall)
        clients.append(own.test_client())
        assert clients[-1].get("/auth/me", headers=person.headers).status_code == 200

    def ask(one: FlaskClient) -> str:
        given = {"name": "a", "scopes": ["token:read"]}
        response = one.post("/auth/keys", json=given, headers=person.headers)
        return str(response.get_json().get("code", response.status_code))

    statuses: list[str] = []
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            statuses += threads.map(ask, clients)
    assert statuses.count("201") == 1
    assert set(statuses) <= {"201", "too_many_keys", "database_unavailable"}
    listed = client.get("/auth/keys", headers=person.headers).get_json()["items"]
    assert len(listed) == 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", []),
        ("scopes", ["token:all"]),
        ("scopes", "token:read"),
        ("purposes", [""]),
        ("purposes", ["a*b"]),
        ("purposes", ["A"]),
        ("purposes", ["a" * 64 + "*"]),
        ("cidrs", ["192.0.2.1/24"]),
        ("cidrs", ["::ffff:192.0.2.0/120"]),
        ("cidrs", ["fe80::1%eth0"]),
        ("cidrs", ["localhost"]),
        ("cidrs", []),
        ("expires_in", 0),
        ("expires_in", 10**9),
        ("limits", {"create": "off"}),
        ("limits", {"create": "0 per hour"}),
        ("limits", {"create": "1 per hour;2 per hour"}),
        ("limits", {"login": "1 per hour"}),
        ("name", ""),
        ("name", "a\u202eb"),
    ],
)
def test_a_wrong_field_of_a_new_key_is_named(
    client: FlaskClient, person: Person, field: str, value: Any
) -> None:
    given = {"name": "a", "scopes": ["token:read"], field: value}
    response = client.post("/auth/keys", json=given, headers=person.headers)
    refusal_of_field(response, field)


def test_every_altered_key_is_refused_without_a_query(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    """Each single character changed, left out, added or swapped: the checksum finds it.

    Guard: ``taken_apart``.
    """
    key = new_key(client.post, person)["key"]
    assert create(client, key).status_code == 201
    tried = list(dict.fromkeys(altered(key)))
    assert len(tried) > 5_000
    beginning = [one for one in tried if one.startswith("osk_")]
    for one in beginning:
        with pytest.raises(TokenMalformed):
            KeyText.parse(one)
    sample = secrets.SystemRandom().sample(tried, 150)
    with recorded(app, READS) as seen:
        for one in sample:
            response = client.get("/token", headers=bearer(one))
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert not seen


def test_a_key_with_another_secret_or_id_is_refused(client: FlaskClient, person: Person) -> None:
    """The checksum is right. Guard: ``compare_digest`` in ``caller_with_key``."""
    first, second = (KeyText.parse(new_key(client.post, person)["key"]) for _ in "ab")
    assert create(client, str(first)).status_code == 201
    for forged in (
        KeyText(first.id, second.secret),
        KeyText(first.id, KeyText.new().secret),
        KeyText.new(),
    ):
        for _ in range(2):
            problem_in(create(client, str(forged)), 401, "key_invalid")
    assert create(client, str(first)).status_code == 201


def test_all_refusals_of_a_key_are_the_same_and_cost_one_query(
    app: Flask, client: FlaskClient, person: Person, other: Person
) -> None:
    """Unknown, wrong, revoked, expired, of a disabled account, from another network.

    Guard: ``anew`` in ``caller_with_key``: a cached refusal would tell by its time.
    """
    made = {
        name: new_key(client.post, person, **fields)
        for name, fields in {
            "revoked": {},
            "expired": {},
            "network": {"cidrs": ["192.0.2.0/24"]},
        }.items()
    }
    made["disabled"] = new_key(client.post, other)
    texts = {name: str(one["key"]) for name, one in made.items()}
    texts["unknown"] = str(KeyText.new())
    texts["wrong"] = str(KeyText(made["revoked"]["id"], KeyText.new().secret))
    for name in ("revoked", "expired", "disabled"):
        assert create(client, texts[name]).status_code == 201
    revoke = "UPDATE service_keys SET revoked_at = now() WHERE id = :id"
    execute(app, revoke, id=made["revoked"]["id"])
    expire = "UPDATE service_keys SET expires_at = now() WHERE id = :id"
    execute(app, expire, id=made["expired"]["id"])
    execute(app, "UPDATE users SET is_active = false WHERE id = :id", id=other.id)
    time.sleep(2)
    told = set()
    for _ in range(3):
        for text_ in texts.values():
            with recorded(app, READS) as seen:
                response = create(client, text_)
            assert len(seen) == 1
            body = problem_in(response, 401, "key_invalid")
            headers = [f for f in response.headers if f[0] not in ("X-Request-ID",)]
            del body["request_id"]
            told.add(f"{body} {headers}")
    assert len(told) == 1


def test_a_warm_call_with_a_key_does_not_query_postgres(
    app: Flask, make_app: Callable[..., Flask]
) -> None:
    """Also through the direct door. Guards: ``VerifiedTokens``, and the cache of ``Callers``."""
    own = make_app()
    person = enrol(own.test_client().post)
    key = new_key(own.test_client().post, person)["key"]
    with always_near(), always_fresh():
        door = open_door(own)
        client = own.test_client()
        assert create(client, key).status_code == 201
        used = "SELECT id FROM service_keys WHERE last_used_on IS NOT NULL AND user_id = :id"
        until(lambda: bool(execute(own, used, id=person.id)))
        assert create(client, key).status_code == 201
        door.passed.clear()
        with recorded(own, READS) as reads, recorded(own, "UPDATE") as writes:
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                assert create(client, key).status_code == 201
                time.sleep(0.05)
        assert door.passed["flask"] == 0
    assert not reads
    assert not writes


def test_the_day_of_the_last_use_is_written_once(
    app: Flask, client: FlaskClient, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: ``Callers.used`` and ``_note_uses``, and the condition in uses.py."""
    made = new_key(client.post, person)

    def last_used_on() -> str | None:
        [item] = client.get("/auth/keys", headers=person.headers).get_json()["items"]
        found: str | None = item["last_used_on"]
        return found

    # What is not written in 0.2 s is not tried again.
    monkeypatch.setattr(callers, "waiting", lambda _: nullcontext())
    assert last_used_on() is None
    with recorded(app, "UPDATE service_keys SET last_used_on") as writes:
        assert create(client, made["key"]).status_code == 201
        until(lambda: last_used_on() is not None, seconds=5)
        for _ in range(30):
            assert create(client, made["key"]).status_code == 201
            time.sleep(0.05)
    assert len(writes) == 1
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert last_used_on() in (today, time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60)))
