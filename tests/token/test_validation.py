"""Validating a token: the response, and every refusal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dev
from tests.stage.callers import Caller, body_of
from tests.stage.people import PASSWORD, Person, new_correo
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.times import moment, seconds_between
from tests.stage.tokens import ACTION, INACTIVE, OTHER_ACTION, VALIDATED, altered
from tokenservice.onetime.format import ID, SECRET, Token, random_base62


def test_validate_returns_the_terms_of_the_token(ana: Caller, berta: Caller) -> None:
    token = ana.create(purpose="ws.connect", subject="order 7", data={"room": 7})
    response = berta.post("validate", token=token["token"], purpose="ws.connect")
    assert response.status_code == 200
    body = body_of(response)
    assert set(body) == VALIDATED
    assert (body["valid"], body["replayed"]) == (True, False)
    assert (body["id"], body["issued_by"]) == (token["id"], ana.id)
    terms = (body["purpose"], body["subject"], body["data"])
    assert terms == ("ws.connect", "order 7", {"room": 7})
    assert body["created_at"] == token["server_time"]
    assert 0 <= seconds_between(body["created_at"], body["consumed_at"]) < 30


@pytest.mark.parametrize(
    ("accepted", "language", "message"),
    [
        ({}, "es", "Token válido: queda utilizado."),
        ({"Accept-Language": "en-GB, es;q=0.5"}, "en", "Valid token: it is now used up."),
        ({"Accept-Language": "de"}, "es", "Token válido: queda utilizado."),
    ],
)
def test_the_message_is_in_the_language_of_the_client(
    ana: Caller, accepted: dict[str, str], language: str, message: str
) -> None:
    """RFC 9110 section 12.5.5: a response that depends on a header names it in Vary."""
    token = ana.create()["token"]
    response = ana.client.post(
        "/token/validate", json={"token": token}, headers=ana.headers(**accepted)
    )
    assert body_of(response)["message"] == message
    assert response.headers["Content-Language"] == language
    assert "Accept-Language" in response.headers["Vary"]


def test_a_used_token_reports_its_time_of_use(ana: Caller, berta: Caller) -> None:
    token = ana.create()
    consumed = body_of(ana.post("validate", token=token["token"]))
    for caller in (ana, berta):
        for verb in ("validate", "reserve", "revoke"):
            response = caller.post(verb, token=token["token"])
            problem = problem_in(response, 409, "token_already_used")
            assert moment(problem["consumed_at"]) == moment(consumed["consumed_at"])
    # A revoke is no attempt to use the token.
    assert ana.receipt(token["id"])["replays"] == 4


MALFORMED: dict[str, Callable[[str], str]] = {
    "nothing": lambda token: "",
    "a word": lambda token: "token",
    "one letter less": lambda token: token[:-1],
    "one letter more": lambda token: token + "0",
    "one letter changed": lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
    "another prefix": lambda token: "otx_" + token[4:],
    "space around it": lambda token: f" {token} ",
    "a line end": lambda token: token + "\n",
    "letters that only look alike": lambda token: token[:-1] + "\uff10",
    "very long": lambda token: token * 200,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_text_that_is_no_token_is_malformed(ana: Caller, name: str) -> None:
    """Guard: Token.parse() is the first step of every verb."""
    token = ana.create()["token"]
    text = MALFORMED[name](token)
    for verb in ("validate", "reserve", "revoke"):
        problem_in(ana.post(verb, token=text), 422, "token_malformed")
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=text), 422, "token_malformed")
    assert ana.post("introspect", token=text).data == INACTIVE
    assert ana.post("validate", token=token).status_code == 200


@pytest.mark.parametrize(("part", "length"), [("id", ID), ("secret", SECRET)])
def test_a_made_up_token_is_unknown(ana: Caller, part: str, length: int) -> None:
    """Guard: the comparison of verifiers. A wrong secret does not reveal that the id exists."""
    token = ana.create()["token"]
    made_up = random_base62(length)
    if part == "id":
        made_up = token[4:6] + made_up[2:]
    text = altered(token, **{part: made_up})
    for verb in ("validate", "reserve", "revoke"):
        problem_in(ana.post(verb, token=text), 404, "token_unknown")
    assert ana.post("introspect", token=text).data == INACTIVE
    assert ana.post("validate", token=token).status_code == 200


@pytest.mark.parametrize("named_by", ["id", "correo"])
def test_only_the_audience_may_use_a_token(ana: Caller, berta: Caller, named_by: str) -> None:
    """Guard: admits(). Not even a creator outside the audience may."""
    token = ana.create(audience=[getattr(berta.person, named_by)])["token"]
    for verb in ("validate", "reserve"):
        problem_in(ana.post(verb, token=token), 403, "token_not_for_caller")
    assert berta.post("validate", token=token).status_code == 200


def test_a_correo_may_be_named_before_it_registers(ana: Caller) -> None:
    correo = new_correo()
    token = ana.create(audience=[correo.upper()], allow_unregistered=True)["token"]
    account = {"nombre": "Luis", "correo": correo, "password": PASSWORD}
    registered = body_of(ana.client.post("/auth/register", json=account))
    login = ana.client.post("/auth/login", json={"correo": correo, "password": PASSWORD})
    headers = {"Authorization": f"Bearer {body_of(login)['access_token']}"}
    luis = Caller(ana.client, Person(registered["id"], correo, headers))
    assert luis.post("validate", token=token).status_code == 200


BOUND = {"purpose": "pay", "subject": "order 7", "bind": ACTION}
MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no purpose": (BOUND, {"bind": ACTION}, "purpose"),
    "another purpose": (BOUND, {**BOUND, "purpose": "pay2"}, "purpose"),
    "a purpose where there is none": ({}, {"purpose": "pay"}, "purpose"),
    "another subject": (BOUND, {**BOUND, "subject": "order 8"}, "subject"),
    "a subject where it is the creator": ({}, {"subject": "order 7"}, "subject"),
    "no action": (BOUND, {"purpose": "pay"}, "bind"),
    "another action": (BOUND, {**BOUND, "bind": OTHER_ACTION}, "bind"),
    "an action where there is none": ({}, {"bind": ACTION}, "bind"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_names_the_field_and_consumes_nothing(ana: Caller, name: str) -> None:
    """Guard: mismatch() comes before the first write."""
    fields, presented, wrong = MISMATCHES[name]
    token = ana.create(**fields)["token"]
    for verb in ("validate", "reserve"):
        response = ana.post(verb, token=token, **presented)
        assert problem_in(response, 403, "token_mismatch")["field"] == wrong
        for value in (fields.get("subject", ana.id), ACTION):
            assert value not in response.text
    assert ana.post("validate", token=token, **fields).status_code == 200


def test_a_subject_is_optional_and_an_action_is_case_insensitive(ana: Caller) -> None:
    token = ana.create(**{**BOUND, "bind": ACTION.upper()})["token"]
    response = ana.post("validate", token=token, purpose="pay", bind="0F0f" * 16)
    assert response.status_code == 200
    assert body_of(response)["subject"] == "order 7"


@pytest.mark.parametrize("verb", ["validate", "reserve"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("purpose", "A"), ("subject", ""), ("bind", "0"), ("token", 7), ("expires_in", 10)],
)
def test_presented_fields_are_checked_like_created_ones(
    ana: Caller, verb: str, field: str, value: Any
) -> None:
    refusal_of_field(ana.post(verb, **{"token": "x", field: value}), field)


@pytest.mark.parametrize("verb", ["consume", "validate", "reserve"])
@pytest.mark.parametrize("fields", [{"subject": "order 7"}, {}], ids=["a subject", "the creator"])
def test_a_subject_that_is_required_must_be_named(
    ana: Caller, berta: Caller, verb: str, fields: dict[str, str]
) -> None:
    """Guard: require_subject in mismatch(). Without a subject it is the creator's id."""
    token = ana.create(require_subject=True, **fields)
    for named in ({}, {"subject": "order 8"}):
        response = berta.post(verb, token=token["token"], **named)
        assert problem_in(response, 403, "token_mismatch")["field"] == "subject"
        assert token["subject"] not in response.text
    assert ana.receipt(token["id"])["state"] == "active"
    response = berta.post(verb, token=token["token"], subject=token["subject"])
    assert response.status_code == 200
    assert token["subject"] == fields.get("subject", ana.id)


def test_a_batch_may_require_its_subject(ana: Caller) -> None:
    made = body_of(ana.post("batch", count=2, subject="order 7", require_subject=True))["tokens"]
    for token in made:
        problem_in(ana.post("consume", token=token["token"]), 403, "token_mismatch")
        response = ana.post("consume", token=token["token"], subject="order 7")
        assert response.status_code == 200


def test_a_subject_is_not_required_by_default(ana: Caller) -> None:
    """Nor does a key stand for less than the demand."""
    for fields in ({}, {"require_subject": False}):
        token = body_of(ana.post("create", "k", **fields))["token"]
    assert ana.post("consume", token=token).status_code == 200
    response = ana.post("create", "k", require_subject=True)
    problem_in(response, 422, "idempotency_mismatch")


def test_a_token_expires(ana: Caller) -> None:
    token = ana.create(expires_in=1)
    time.sleep(1.2)
    for verb in ("validate", "reserve", "revoke"):
        problem_in(ana.post(verb, token=token["token"]), 410, "token_expired")
    problem_in(ana.delete(token["id"]), 410, "token_expired")
    assert ana.post("introspect", token=token["token"]).data == INACTIVE
    assert ana.receipt(token["id"])["state"] == "expired"


def test_a_token_of_another_run_of_redis_is_lost(
    in_app: Callable[..., Caller], tmp_path: Path
) -> None:
    """Guard: the term in prelude.lua."""
    with dev.Redis(tmp_path) as server:
        caller = in_app(redis_url=server.url)
        token = caller.create()["token"]
        held = caller.hold(caller.create()["token"])
        server.stop()
        for verb in ("create", "batch", "validate", "reserve", "revoke", "introspect"):
            body = {"create": {}, "batch": {"count": 1}}.get(verb, {"token": token})
            response = caller.post(verb, **body)
            problem_in(response, 503, "store_unavailable")
            assert response.headers["Retry-After"] == "1"
        for response in (
            caller.post("commit", reservation=held),
            caller.post("release", reservation=held),
            caller.get(),
            caller.get(f"/{Token.parse(token).id}"),
            caller.delete(Token.parse(token).id),
        ):
            problem_in(response, 503, "store_unavailable")
            assert response.headers["Retry-After"] == "1"
        server.start()
        for verb in ("validate", "reserve", "revoke"):
            problem_in(caller.post(verb, token=token), 410, "token_lost")
        for verb in ("commit", "release"):
            problem_in(caller.post(verb, reservation=held), 410, "token_lost")
        assert caller.post("introspect", token=token).data == INACTIVE
