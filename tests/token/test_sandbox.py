"""The sandbox: fixed tokens, each of which is told as a real token in its state."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import dev
from tests.stage.callers import Caller, body_of
from tests.stage.keys import bearer, new_key
from tests.stage.people import PASSWORD, enrol
from tests.stage.problems import problem_in
from tests.stage.tokens import ACTION, INACTIVE, altered
from tokenservice.onetime.format import Reservation
from tokenservice.server.framing import BodyTooLarge
from tokenservice.server.refusals import Shedding, refusal
from tokenservice.server.request import Request
from tokenservice.token.sandbox import RESERVATIONS, TOKENS
from tokenservice.web import texts

PURPOSE = "ws.connect"
OTHER = "0190a7c0-0000-7000-8000-00000000abcd"
#: What differs between two calls: tokens, ids, times and their length, and the cause of a 503.
CHANGING = re.compile(
    r"ot[tr]_\w+|\b[0-9A-Za-z]{18}\b|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b"
    r"|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)|(?<=Content-Length: )\d+|(?<=Retry-After: )\d+"
    r'|(?<="ms": )[\d.]+|(?<="expires_in":)[\d.]+|(?<="why": )"[^"]+"'
)
PRESENTING = ("consume", "validate", "reserve", "gate")
CALLS = (*PRESENTING, "introspect", "revoke")


class Stage:
    """A caller of a service with the sandbox, beside another account.

    :ivar away: the same caller of one whose Redis is away
    """

    def __init__(self, app: Flask, without_redis: Flask, store: redis.Redis) -> None:
        self.redis = store
        self.ana, self.berta = (
            Caller(app.test_client(), enrol(app.test_client().post)) for _ in "ab"
        )
        self.away = Caller(without_redis.test_client(), self.ana.person)

    def real(self, name: str) -> str:
        """A real token in the state of the fixed one of this name."""
        terms = {"purpose": PURPOSE, "subject": "sandbox", "data": {"sandbox": True}}
        terms |= {
            "expired": {"expires_in": 1},
            "other_purpose": {"purpose": "app.open"},
            "other_bind": {"bind": ACTION},
            "not_for_caller": {"audience": [OTHER]},
        }.get(name, {})
        issuer = self.berta if name in ("other_issuer", "not_for_caller") else self.ana
        made = issuer.create(**terms)
        text = str(made["token"])
        if name == "used":
            present(issuer, "consume", text)
        elif name == "reserved":
            issuer.hold(text, purpose=PURPOSE)
        elif name == "revoked":
            issuer.delete(made["id"])
        elif name == "lost":
            return altered(text, secret="0" * 28, epoch="0000")
        elif name == "unknown":
            return altered(text, secret="0" * 28)
        return text

    def reservation(self, name: str) -> str:
        """A real reservation in the state of the fixed one of this name."""
        holder = self.berta if name == "unknown" else self.ana
        text = holder.create(subject="sandbox", data={"sandbox": True})["token"]
        held = holder.hold(text)
        if name == "used":
            holder.post("commit", reservation=held)
        elif name == "revoked":
            holder.post("revoke-all", subject="sandbox")
        elif name == "lease_ended":
            holder.post("release", reservation=held)
        elif name == "lost":
            self.redis.flushall()
            return str(dataclasses.replace(Reservation.parse(held), epoch="0000"))
        return held


def present(caller: Caller, call: str, text: str, **terms: Any) -> TestResponse:
    """Present a token, with the terms that such a call takes."""
    issuers = [caller.id]
    if call == "gate":
        query = {"purpose": PURPOSE, "issued_by": issuers}
        headers = caller.headers(**{"X-One-Time-Token": text})
        return caller.client.get("/token/gate", query_string=query, headers=headers)
    if call == "revoke":
        return caller.post(call, token=text)
    if call == "introspect":
        return caller.post(call, token=text, issued_by=issuers)
    return caller.post(call, token=text, purpose=PURPOSE, issued_by=issuers, **terms)


@pytest.fixture(scope="module")
def boxed(app: Flask, through_door: Callable[..., Flask], own_redis: dev.Redis) -> Flask:
    return through_door(sandbox=True, redis_url=own_redis.url)


@pytest.fixture(scope="module")
def stage(
    boxed: Flask, through_door: Callable[..., Flask], own_redis: dev.Redis
) -> Iterator[Stage]:
    with redis.from_url(own_redis.url) as store:
        yield Stage(boxed, through_door(sandbox=True, redis_url="redis://127.0.0.1:1/0"), store)


def told(response: TestResponse, lines: list[str]) -> dict[str, str]:
    """All that a call tells its caller, the log, and the audit trail."""
    asked = [line for line in lines if '"endpoint": ' in line]
    trail = "\n".join(line for line in asked if '"stream": "audit"' in line)
    [line] = [line for line in asked if line not in trail]
    del lines[:]
    body = response.text
    if "active" in body:  # An introspection presents no purpose that a fixed token could have.
        body = re.sub(r'"purpose":[^,]+,', "", body)
    seen = {
        "status": str(response.status_code),
        "headers": "\n".join(f"{name}: {value}" for name, value in response.headers),
        "body": body,
        "line": line,
        # A fixed token has no purpose of its own, and was made by its caller.
        "trail": re.sub(r'"(purpose|issued_by)": "[^"]+", ', "", trail),
    }
    return {name: CHANGING.sub("*", text) for name, text in seen.items()}


@pytest.mark.parametrize("name", TOKENS.values())
def test_a_fixed_token_is_told_as_a_real_one(stage: Stage, lines: list[str], name: str) -> None:
    """Status, header fields in their order, body and line of the log, in each call of it."""
    terms = {"subject": "order 8"} if name == "other_subject" else {}
    texts = [stage.real(name) for _ in CALLS]
    if name == "expired":
        time.sleep(1.2)
    for call, text in zip(CALLS, texts, strict=True):
        more = terms if call not in ("gate", "introspect", "revoke") else {}
        del lines[:]
        real = present(stage.away if name == "unavailable" else stage.ana, call, text, **more)
        expected = told(real, lines)
        found = told(present(stage.ana, call, f"ott_sandbox_{name}", **more), lines)
        assert found == expected, call
        assert (call, name) != ("consume", "good") or real.status_code == 200


@pytest.mark.parametrize("name", RESERVATIONS.values())
@pytest.mark.parametrize("verb", ["commit", "release"])
def test_a_fixed_reservation_is_told_as_a_real_one(
    stage: Stage, lines: list[str], name: str, verb: str
) -> None:
    ana = stage.away if name == "unavailable" else stage.ana
    text = stage.reservation(name)
    del lines[:]
    expected = told(ana.post(verb, reservation=text), lines)
    assert told(stage.ana.post(verb, reservation=f"otr_sandbox_{name}"), lines) == expected


def test_the_good_one_is_good_each_time_and_fits_its_presenter(stage: Stage) -> None:
    ana, berta = stage.ana, stage.berta
    for _ in range(3):
        response = ana.post(
            *("consume", "a-key"),
            token="ott_sandbox_good",
            purpose=PURPOSE,
            subject="order 7",
            bind=ACTION,
            issued_by=[berta.person.correo, OTHER],
        )
        body = body_of(response)
        assert (body["purpose"], body["subject"], body["issued_by"]) == (
            *(PURPOSE, "order 7"),
            berta.id,
        )
        assert (body["data"], body["replayed"]) == ({"sandbox": True}, False)
    alone = body_of(ana.post("consume", token="ott_sandbox_good"))
    assert (alone["issued_by"], alone["purpose"], alone["subject"]) == (ana.id, None, "sandbox")


def test_issuers_without_an_account_created_no_token(stage: Stage) -> None:
    """A misspelt address is refused as by the service. Guard: ``owner_of``."""
    given = {"token": "ott_sandbox_good", "issued_by": ["nobody@example.com"]}
    problem = problem_in(stage.ana.post("consume", **given), 403, "token_mismatch")
    assert problem["field"] == "issued_by"
    assert stage.ana.post("introspect", **given).data == INACTIVE


def test_a_caller_that_names_no_issuer_accepts_the_token_of_any(stage: Stage) -> None:
    """So an integrator that forgets ``issued_by`` notices: this token should be refused."""
    assert stage.ana.post("consume", token="ott_sandbox_other_issuer").status_code == 200


def test_a_reservation_of_the_good_one_is_committed_and_released_each_time(stage: Stage) -> None:
    for _ in range(2):
        held = stage.ana.hold("ott_sandbox_good", purpose=PURPOSE, issued_by=[stage.ana.id])
        assert body_of(stage.ana.post("commit", reservation=held))["valid"] is True
        assert stage.ana.post("release", reservation=held).status_code == 204
    ending = stage.ana.hold("ott_sandbox_lease_ended", purpose=PURPOSE, issued_by=[stage.ana.id])
    problem_in(stage.ana.post("commit", reservation=ending), 409, "lease_ended")


def test_a_pass_of_the_gate_is_given_for_the_good_one(stage: Stage) -> None:
    query = {"purpose": PURPOSE, "issued_by": stage.ana.id, "pass_seconds": 60}
    browser = stage.ana.client.application.test_client(use_cookies=False)
    headers = stage.ana.headers(**{"X-One-Time-Token": "ott_sandbox_good"})
    first = browser.get("/token/gate", query_string=query, headers=headers)
    kept = {"Cookie": first.headers["Set-Cookie"].partition(";")[0]}
    again = browser.get("/token/gate", query_string=query, headers={**headers, **kept})
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["X-Token-Id"] == first.headers["X-Token-Id"]
    assert "Set-Cookie" not in again.headers


def test_a_key_may_do_no_more_with_them(stage: Stage) -> None:
    def refused(code: str, **fields: Any) -> None:
        key = new_key(stage.ana.client.post, stage.ana.person, **fields)
        given = {"token": "ott_sandbox_good", "purpose": PURPOSE, "issued_by": [stage.ana.id]}
        response = stage.ana.client.post("/token/consume", json=given, headers=bearer(key["key"]))
        problem_in(response, 403, code)

    refused("insufficient_scope", scopes=["token:read"])
    refused("purpose_not_allowed", purposes=["app.*"])


def test_a_fixed_token_resets_no_password(stage: Stage) -> None:
    """It is for callers alone. Guard: ``presentation``, which only /token knows."""
    for text in TOKENS:
        given = {"token": text, "password": PASSWORD}
        response = stage.ana.client.post("/auth/password/reset", json=given)
        problem_in(response, 422, "token_malformed")


def test_fixed_tokens_never_reach_redis(stage: Stage) -> None:
    """No script, and no key. A real token beside them does. Guard: the look into ``TOKENS``."""
    present(stage.ana, "consume", stage.real("good"))
    held = stage.reservation("good")
    keys, commands = set(stage.redis.keys()), scripts(stage.redis)
    for text in TOKENS:
        for call in CALLS:
            present(stage.ana, call, text)
    for text in RESERVATIONS:
        for verb in ("commit", "release"):
            stage.ana.post(verb, reservation=text)
    assert set(stage.redis.keys()) <= keys
    assert scripts(stage.redis) == commands
    stage.ana.post("commit", reservation=held)
    assert scripts(stage.redis) > commands


def scripts(store: redis.Redis) -> int:
    """The scripts that a Redis has run."""
    stats: dict[str, Any] = store.info("commandstats")
    return sum(
        stats[name]["calls"] for name in stats if name.startswith(("cmdstat_eval", "cmdstat_fcall"))
    )


@pytest.mark.parametrize("text", TOKENS)
def test_without_the_sandbox_a_fixed_token_is_malformed(ana: Caller, text: str) -> None:
    for call in ("consume", "validate", "reserve", "revoke"):
        problem_in(present(ana, call, text), 422, "token_malformed")
    assert present(ana, "introspect", text).data == INACTIVE
    response = present(ana, "gate", text)
    problem_in(response, 403, "token_malformed")
    assert "X-Sandbox" not in response.headers


@pytest.mark.parametrize("text", RESERVATIONS)
def test_without_the_sandbox_a_fixed_reservation_is_malformed(ana: Caller, text: str) -> None:
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=text), 422, "token_malformed")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", path, 200) for path in ("/healthz", "/docs", "/openapi.json", "/problems")),
        *(("GET", path, 200) for path in ("/docs/assets/swagger-ui.css", "/static/docs.js")),
        *(("GET", "/", 302), ("GET", "/nowhere", 404), ("POST", "/healthz", 405)),
        *(("GET", "/token", 401), ("OPTIONS", "/token/create", 200), ("GET", "/readyz", 200)),
        *(("POST", "/auth/login", 422), ("POST", "/auth/token", 400), ("GET", "/token/gate", 503)),
    ],
)
def test_every_response_says_that_it_is_of_a_sandbox(
    boxed: Flask, client: FlaskClient, method: str, path: str, status: int
) -> None:
    """Guard: ``hooks.complete``."""
    with boxed.test_client().open(path, method=method) as response:
        assert (response.status_code, response.headers.getlist("X-Sandbox")) == (status, ["true"])
    with client.open(path, method=method) as response:
        assert "X-Sandbox" not in response.headers


def test_refusals_of_the_worker_say_it_too(boxed: Flask) -> None:
    shedding = Shedding(lambda error, headers: refusal(boxed, error, headers))
    request = Request("GET", b"/token", "1.1", [], ("127.0.0.1", 1))
    refusals = [refusal(boxed, BodyTooLarge()), *(shedding.answer(request) for _ in range(2))]
    for answer in refusals:
        assert ("X-Sandbox", "true") in answer.headers


def test_the_document_names_the_fixed_tokens(boxed: Flask, app: Flask) -> None:
    for language in texts.LANGUAGES:
        path = f"/openapi.json?lang={language}"
        said, unsaid = (each.test_client().get(path).text for each in (boxed, app))
        assert all(f"`{text}`" in said for text in TOKENS)
        assert "sandbox" not in unsaid


def test_pages_of_other_origins_may_read_it(through_door: Callable[..., Flask], app: Flask) -> None:
    origin = "https://app.example.com"
    browser = through_door(sandbox=True, cors_origins=(origin,)).test_client()
    response = browser.get("/healthz", headers={"Origin": origin})
    assert "X-Sandbox" in response.headers["Access-Control-Expose-Headers"]
