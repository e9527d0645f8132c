"""One-time tokens as a client meets them: every field, every answer and every refusal."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

import dev
from tests.conftest import PASSWORD, Person, Service, enrol, new_correo
from tests.onetime.topologies import until
from tests.test_errors import problem_in
from tokenservice.onetime.format import ID, SECRET, Token, random_base62

ACTION = "0f" * 32
OTHER_ACTION = "f0" * 32
TOKEN = re.compile(r"ott_[0-9A-Za-z]{56}")
RESERVATION = re.compile(r"otr_[0-9A-Za-z]{70}")
PUBLIC_ID = re.compile(r"[0-9A-Za-z]{18}")
INACTIVE = b'{"active":false}\n'
CREATED = {
    *("token", "id", "expires_in", "expires_at", "server_time", "purpose", "audience", "subject"),
}
VALIDATED = {
    *("message", "valid", "id", "subject", "purpose", "data", "issued_by", "created_at"),
    *("consumed_at", "replayed"),
}
HELD = {
    *("reservation", "lease_expires_at", "id", "subject", "purpose", "data", "issued_by"),
    "created_at",
}
RECEIPT = {
    *("id", "state", "purpose", "subject", "created_at", "expires_at", "consumed_at"),
    *("consumed_by", "replays"),
}


@dataclasses.dataclass
class Caller:
    """Someone with an account, calling one app."""

    client: FlaskClient
    person: Person

    @property
    def id(self) -> str:
        return self.person.id

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        named = {} if key is None else {"Idempotency-Key": key}
        return {**self.person.headers, **named, **more}

    def post(self, verb: str, key: str | None = None, **body: Any) -> TestResponse:
        """Call a verb; whatever is answered is kept by no cache."""
        answer = self.client.post(f"/token/{verb}", json=body, headers=self.headers(key))
        assert answer.headers["Cache-Control"] == "no-store"
        return answer

    def get(self, path: str = "", **query: Any) -> TestResponse:
        return self.client.get(f"/token{path}", query_string=query, headers=self.headers())

    def delete(self, token_id: str) -> TestResponse:
        return self.client.delete(f"/token/{token_id}", headers=self.headers())

    def create(self, **fields: Any) -> dict[str, Any]:
        """Create a token; give what was answered."""
        answer = self.post("create", **{"expires_in": 60, **fields})
        assert answer.status_code == 201, answer.text
        return body_of(answer)

    def hold(self, token: str, **fields: Any) -> str:
        """Reserve a token; give the reservation."""
        answer = self.post("reserve", token=token, **fields)
        assert answer.status_code == 200, answer.text
        return str(body_of(answer)["reservation"])

    def receipt(self, token_id: str) -> dict[str, Any]:
        answer = self.get(f"/{token_id}")
        assert answer.status_code == 200
        return body_of(answer)


def body_of(answer: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.text)
    return found


def moment(text: str) -> datetime.datetime:
    """Read a time, which says its zone."""
    read = datetime.datetime.fromisoformat(text)
    assert read.tzinfo
    return read


def seconds_between(early: str, late: str) -> float:
    return (moment(late) - moment(early)).total_seconds()


@pytest.fixture
def ana(client: FlaskClient, person: Person) -> Caller:
    return Caller(client, person)


@pytest.fixture
def berta(client: FlaskClient, other: Person) -> Caller:
    return Caller(client, other)


@pytest.fixture
def in_app(make_app: Callable[..., Flask], app: Flask) -> Callable[..., Caller]:
    """Give a new caller of an app with some settings changed."""

    def make(**changes: Any) -> Caller:
        client = make_app(**changes).test_client()
        return Caller(client, enrol(client.post))

    return make


def refusal_of_field(answer: TestResponse, field: str) -> None:
    assert set(problem_in(answer, 422, "validation_failed")["errors"]) == {field}


# Create.


def test_a_client_of_the_seed_works_unchanged(client: FlaskClient) -> None:
    """It reads ``access_token`` and ``token``, and takes 200 for "good, and now used up"."""
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
    assert client.post("/auth/register", json=account).status_code == 201
    login = client.post(
        "/auth/login", json={"correo": account["correo"], "password": account["password"]}
    )
    headers = {"Authorization": f"Bearer {body_of(login)['access_token']}"}
    token = body_of(client.post("/token/create", headers=headers))["token"]
    statuses = [
        client.post("/token/validate", json={"token": token}, headers=headers).status_code
        for _ in range(2)
    ]
    assert statuses == [200, 409]


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_create_needs_no_body(ana: Caller, body: bytes) -> None:
    answer = ana.client.post(
        "/token/create", data=body, content_type="application/json", headers=ana.headers()
    )
    assert answer.status_code == 201
    token = body_of(answer)
    assert set(token) == CREATED
    assert TOKEN.fullmatch(token["token"])
    assert PUBLIC_ID.fullmatch(token["id"])
    assert token["expires_in"] == 10
    assert seconds_between(token["server_time"], token["expires_at"]) == 10
    assert abs(moment(token["server_time"]).timestamp() - time.time()) < 30
    assert (token["purpose"], token["audience"], token["subject"]) == (None, None, ana.id)


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the shortest life": ({"expires_in": 1}, {"expires_in": 1}),
    "the longest life": ({"expires_in": 86_400}, {"expires_in": 86_400}),
    "a purpose of 1": ({"purpose": "a"}, {"purpose": "a"}),
    "a purpose of 64": ({"purpose": "a0._:-" * 10 + "wxyz"}, {"purpose": "a0._:-" * 10 + "wxyz"}),
    "a subject of 1": ({"subject": "7"}, {"subject": "7"}),
    "a subject of 255": ({"subject": "ñ" * 255}, {"subject": "ñ" * 255}),
    "a subject with space around it": ({"subject": "  order 7 "}, {"subject": "order 7"}),
    "16 members": (
        {"audience": [f"m{number}@example.com" for number in range(16)]},
        {"audience": [f"m{number}@example.com" for number in range(16)]},
    ),
    "a correo in another spelling": (
        {"audience": ["  ANA@Example.COM "]},
        {"audience": ["ana@example.com"]},
    ),
    "an id in another spelling": (
        {"audience": ["0190A7C0-0000-7000-8000-00000000ABCD"]},
        {"audience": ["0190a7c0-0000-7000-8000-00000000abcd"]},
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_create_takes_each_optional_field(ana: Caller, name: str) -> None:
    fields, told = FIELDS[name]
    answer = ana.post("create", **fields)
    assert answer.status_code == 201
    token = body_of(answer)
    assert {field: token[field] for field in told} == told
    assert seconds_between(token["server_time"], token["expires_at"]) == token["expires_in"]


WRONG_FIELDS: dict[str, tuple[str, Any]] = {
    "no life": ("expires_in", 0),
    "a negative life": ("expires_in", -1),
    "a life over the longest": ("expires_in", 86_401),
    "a life that is no whole number": ("expires_in", 1.5),
    "a life in words": ("expires_in", "60"),
    "a life that is true": ("expires_in", True),
    "an empty purpose": ("purpose", ""),
    "a purpose of 65": ("purpose", "a" * 65),
    "a purpose in capitals": ("purpose", "Pay"),
    "a purpose with a space": ("purpose", "a b"),
    "a purpose with a line end": ("purpose", "pay\n"),
    "a purpose with an accent": ("purpose", "ñ"),
    "an empty audience": ("audience", []),
    "17 members": ("audience", [f"m{number}@example.com" for number in range(17)]),
    "a member who is nobody": ("audience", ["ana"]),
    "a member that is no text": ("audience", [7]),
    "an audience that is no list": ("audience", "ana@example.com"),
    "an empty subject": ("subject", ""),
    "a subject of spaces": ("subject", "   "),
    "a subject of 256": ("subject", "s" * 256),
    "a subject of two lines": ("subject", "a\nb"),
    "a subject that is no text": ("subject", 7),
    "data that is a list": ("data", []),
    "data that is a text": ("data", "{}"),
    "data that is null": ("data", None),
    "data of 4097 bytes": ("data", {"d": "x" * 4089}),
    "data of 4098 bytes in fewer letters": ("data", {"d": "ñ" * 2045}),
    "an action of 63": ("bind", "0" * 63),
    "an action of 65": ("bind", "0" * 65),
    "an action that is not hexadecimal": ("bind", "g" * 64),
    "an action with a line end": ("bind", "0" * 64 + "\n"),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_create_names_the_field_that_is_wrong(ana: Caller, name: str) -> None:
    field, value = WRONG_FIELDS[name]
    refusal_of_field(ana.post("create", **{field: value}), field)
    refusal_of_field(ana.post("batch", **{"count": 1, field: value}), field)


def test_the_longest_and_the_usual_life_are_settings(in_app: Callable[..., Caller]) -> None:
    caller = in_app(onetime_token_expire_seconds=7, onetime_token_max_seconds=20)
    assert body_of(caller.post("create"))["expires_in"] == 7
    assert caller.post("create", expires_in=20).status_code == 201
    refusal_of_field(caller.post("create", expires_in=21), "expires_in")


DATA: dict[str, dict[str, Any]] = {
    "nothing": {},
    "text of all kinds": {"ñ": "Íñigo 🐘", "עברית": "日本", "quotes": "\"'\\ </script>", "": " "},
    "every type": {"t": True, "f": False, "n": None, "i": -7, "x": 0.1, "l": [], "o": {}},
    "numbers of any size": {"big": 2**70, "small": 1e-300, "long": int("9" * 1000)},
    "nesting": {"a": [{"b": [{"c": [[[[1]]]]}]}]},
    "exactly 4096 bytes": {"d": "x" * 4088},
    "exactly 4096 bytes in half as many letters": {"d": "ñ" * 2044},
}


@pytest.mark.parametrize("name", DATA)
def test_data_comes_out_as_it_went_in(ana: Caller, name: str) -> None:
    token = ana.create(data=DATA[name])["token"]
    answer = ana.post("validate", token=token)
    assert answer.status_code == 200
    assert body_of(answer)["data"] == DATA[name]
    assert "\\u" not in answer.text


def test_data_nests_as_deep_as_any_body_and_no_deeper(ana: Caller) -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"n": nested(depth - 1)} if depth else {}

    token = ana.create(data=nested(31))["token"]
    assert body_of(ana.post("validate", token=token))["data"] == nested(31)
    problem_in(ana.post("create", data=nested(32)), 400, "not_json")


def test_a_token_is_shown_once(ana: Caller) -> None:
    token = ana.create(data={"room": 7})["token"]
    secret = Token.parse(token).secret
    for answer in (
        ana.get(f"/{Token.parse(token).id}"),
        ana.get(),
        ana.post("introspect", token=token),
        ana.post("reserve", token=token),
    ):
        assert answer.status_code == 200
        assert secret not in answer.text


# Validate.


def test_validate_says_what_the_token_was_for(ana: Caller, berta: Caller) -> None:
    token = ana.create(purpose="ws.connect", subject="order 7", data={"room": 7})
    answer = berta.post("validate", token=token["token"], purpose="ws.connect")
    assert answer.status_code == 200
    body = body_of(answer)
    assert set(body) == VALIDATED
    assert (body["valid"], body["replayed"]) == (True, False)
    assert (body["id"], body["issued_by"]) == (token["id"], ana.id)
    told = (body["purpose"], body["subject"], body["data"])
    assert told == ("ws.connect", "order 7", {"room": 7})
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
def test_the_message_speaks_the_readers_language(
    ana: Caller, accepted: dict[str, str], language: str, message: str
) -> None:
    """RFC 9110 section 12.5.5: an answer that was chosen by a header says so."""
    token = ana.create()["token"]
    answer = ana.client.post(
        "/token/validate", json={"token": token}, headers=ana.headers(**accepted)
    )
    assert body_of(answer)["message"] == message
    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]


def test_a_used_token_says_when_it_was_used(ana: Caller, berta: Caller) -> None:
    token = ana.create()
    consumed = body_of(ana.post("validate", token=token["token"]))
    for caller in (ana, berta):
        for verb in ("validate", "reserve", "revoke"):
            answer = caller.post(verb, token=token["token"])
            problem = problem_in(answer, 409, "token_already_used")
            assert moment(problem["consumed_at"]) == moment(consumed["consumed_at"])
    # A revoke presents nothing for use.
    assert ana.receipt(token["id"])["replays"] == 4


def altered(token: str, **parts: str) -> str:
    """A token with other parts, and the right checksum."""
    return str(dataclasses.replace(Token.parse(token), **parts))


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
def test_what_is_no_token_is_malformed(ana: Caller, name: str) -> None:
    """Guard: Token.parse() is the first thing that any verb does."""
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
    """Guard: the comparison of verifiers. A wrong secret tells nobody that the id exists."""
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
    """Guard: admits(). Not even the creator may, who is not in it."""
    token = ana.create(audience=[getattr(berta.person, named_by)])["token"]
    for verb in ("validate", "reserve"):
        problem_in(ana.post(verb, token=token), 403, "token_not_for_caller")
    assert berta.post("validate", token=token).status_code == 200


def test_a_correo_may_be_named_before_it_registers(ana: Caller) -> None:
    correo = new_correo()
    token = ana.create(audience=[correo.upper()])["token"]
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
def test_a_mismatch_names_the_field_and_burns_nothing(ana: Caller, name: str) -> None:
    """Guard: mismatch() comes before the first write."""
    fields, presented, wrong = MISMATCHES[name]
    token = ana.create(**fields)["token"]
    for verb in ("validate", "reserve"):
        answer = ana.post(verb, token=token, **presented)
        assert problem_in(answer, 403, "token_mismatch")["field"] == wrong
        for value in (fields.get("subject", ana.id), ACTION):
            assert value not in answer.text
    assert ana.post("validate", token=token, **fields).status_code == 200


def test_a_subject_need_not_be_named_and_an_action_has_no_case(ana: Caller) -> None:
    token = ana.create(**{**BOUND, "bind": ACTION.upper()})["token"]
    answer = ana.post("validate", token=token, purpose="pay", bind="0F0f" * 16)
    assert answer.status_code == 200
    assert body_of(answer)["subject"] == "order 7"


@pytest.mark.parametrize("verb", ["validate", "reserve"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("purpose", "A"), ("subject", ""), ("bind", "0"), ("token", 7), ("expires_in", 10)],
)
def test_what_is_presented_is_checked_like_what_is_created(
    ana: Caller, verb: str, field: str, value: Any
) -> None:
    refusal_of_field(ana.post(verb, **{"token": "x", field: value}), field)


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
    """Guard: the fence in prelude.lua."""
    with dev.Redis(tmp_path) as server:
        caller = in_app(redis_url=server.url)
        token = caller.create()["token"]
        held = caller.hold(caller.create()["token"])
        server.stop()
        for verb in ("create", "batch", "validate", "reserve", "revoke", "introspect"):
            body = {"create": {}, "batch": {"count": 1}}.get(verb, {"token": token})
            answer = caller.post(verb, **body)
            problem_in(answer, 503, "store_unavailable")
            assert answer.headers["Retry-After"] == "1"
        for answer in (
            caller.post("commit", reservation=held),
            caller.post("release", reservation=held),
            caller.get(),
            caller.get(f"/{Token.parse(token).id}"),
            caller.delete(Token.parse(token).id),
        ):
            problem_in(answer, 503, "store_unavailable")
            assert answer.headers["Retry-After"] == "1"
        server.start()
        for verb in ("validate", "reserve", "revoke"):
            problem_in(caller.post(verb, token=token), 410, "token_lost")
        for verb in ("commit", "release"):
            problem_in(caller.post(verb, reservation=held), 410, "token_lost")
        assert caller.post("introspect", token=token).data == INACTIVE


# Under an idempotency key.


def test_a_repeated_validate_gets_its_answer_again(ana: Caller) -> None:
    token = ana.create(data={"room": 7})
    first, again = (body_of(ana.post("validate", "k", token=token["token"])) for _ in range(2))
    assert (first.pop("replayed"), again.pop("replayed")) == (False, True)
    assert first == again
    assert ana.receipt(token["id"])["replays"] == 0


def test_nobody_else_gets_it(ana: Caller, berta: Caller) -> None:
    """Guard: the caller in the name of a key."""
    token = ana.create()["token"]
    assert ana.post("validate", "k", token=token).status_code == 200
    for caller, key in ((ana, None), (ana, "K"), (berta, "k"), (berta, None)):
        answer = caller.post("validate", key, token=token)
        problem_in(answer, 409, "token_already_used")


def test_a_key_is_remembered_for_its_window(in_app: Callable[..., Caller]) -> None:
    """After that it may stand for another call; what it consumed is told again all the same."""
    caller = in_app(idempotency_window_seconds=1)
    token, other = (caller.create()["token"] for _ in range(2))
    assert caller.post("validate", "k", token=token).status_code == 200
    problem_in(caller.post("validate", "k", token=other), 422, "idempotency_mismatch")
    time.sleep(1.2)
    assert body_of(caller.post("validate", "k", token=other))["replayed"] is False
    assert body_of(caller.post("validate", "k", token=token))["replayed"] is True


def test_a_repeated_create_makes_nothing_new(ana: Caller) -> None:
    fields = {"expires_in": 60, "purpose": "pay", "data": {"n": 1}}
    first, again = (ana.post("create", "k", **fields) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert body_of(first) == body_of(again)
    assert len(body_of(ana.get())["items"]) == 1
    token = body_of(again)["token"]
    assert ana.post("validate", token=token, purpose="pay").status_code == 200


def test_a_repeated_batch_makes_nothing_new(ana: Caller) -> None:
    first, again = (body_of(ana.post("batch", "k", count=3, expires_in=60)) for _ in range(2))
    assert first == again
    assert len(body_of(ana.get())["items"]) == 3


def test_a_repeated_reserve_holds_nothing_new(ana: Caller) -> None:
    token = ana.create()["token"]
    first, again = (body_of(ana.post("reserve", "k", token=token)) for _ in range(2))
    assert first == again
    assert ana.post("release", reservation=first["reservation"]).status_code == 204
    # The answer is given again only while it is true.
    problem_in(ana.post("reserve", "k", token=token), 409, "lease_ended")


def test_a_repeated_commit_gets_its_answer_again(ana: Caller) -> None:
    held = ana.hold(ana.create()["token"])
    first, again = (body_of(ana.post("commit", "k", reservation=held)) for _ in range(2))
    assert (first.pop("replayed"), again.pop("replayed")) == (False, True)
    assert first == again
    problem_in(ana.post("commit", reservation=held), 409, "token_already_used")


def test_a_key_stands_for_one_body(ana: Caller) -> None:
    """Guard: the comparison of the request in recall()."""
    tokens = [ana.create()["token"] for _ in range(4)]
    held = [ana.hold(token) for token in tokens[:2]]
    pairs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "create": ({}, {"purpose": "pay"}),
        "batch": ({"count": 2}, {"count": 3}),
        "commit": ({"reservation": held[0]}, {"reservation": held[1]}),
        "validate": ({"token": tokens[2]}, {"token": tokens[3]}),
        "reserve": ({"token": tokens[3]}, {"token": tokens[3], "lease_seconds": 5}),
    }
    for verb, (first, second) in pairs.items():
        key = secrets.token_hex(8)
        assert ana.post(verb, key, **first).status_code < 300
        problem_in(ana.post(verb, key, **second), 422, "idempotency_mismatch")


def test_a_key_may_be_used_for_one_call_of_each_kind(ana: Caller) -> None:
    """Guard: the verb in the name of a key. One key can follow a token from create to commit."""
    token = body_of(ana.post("create", "k", expires_in=60))["token"]
    reservation = body_of(ana.post("reserve", "k", token=token))["reservation"]
    assert ana.post("commit", "k", reservation=reservation).status_code == 200
    problem_in(ana.post("validate", "k", token=token), 409, "token_already_used")


@pytest.mark.parametrize("key", ["k", "!", "~", "7" * 255, 'a"b,c;d\\'])
def test_a_key_is_1_to_255_visible_ascii_characters(ana: Caller, key: str) -> None:
    assert ana.post("create", key).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "é", "\x7f", "7" * 256])
@pytest.mark.parametrize("verb", ["create", "batch", "validate", "reserve", "commit"])
def test_no_other_key_is_taken(ana: Caller, key: str, verb: str) -> None:
    """Guard: token.KEY. Nothing is created or consumed under a key that was refused."""
    token = ana.create()["token"]
    bodies = {"create": {}, "batch": {"count": 1}, "commit": {"reservation": "x"}}
    answer = ana.post(verb, key, **bodies.get(verb, {"token": token}))
    refusal_of_field(answer, "Idempotency-Key")
    assert len(body_of(ana.get())["items"]) == 1
    assert ana.post("validate", token=token).status_code == 200


# Batches, and how many may be outstanding.


@pytest.mark.parametrize("count", [1, 100])
def test_a_batch_differs_in_nothing_but_its_tokens(ana: Caller, count: int) -> None:
    answer = ana.post("batch", count=count, purpose="pay", expires_in=60)
    assert answer.status_code == 201
    tokens = body_of(answer)["tokens"]
    assert len({token["id"] for token in tokens}) == count
    assert len({token.pop("token") for token in tokens}) == count
    assert len({token.pop("id") for token in tokens}) == count
    assert all(token == tokens[0] for token in tokens)
    assert tokens[0]["purpose"] == "pay"


@pytest.mark.parametrize("count", [0, 101, -1, "3", 1.5, None, True])
def test_a_batch_has_bounds(ana: Caller, count: Any) -> None:
    refusal_of_field(ana.post("batch", count=count), "count")
    assert body_of(ana.get())["items"] == []


def test_a_batch_says_how_many(ana: Caller) -> None:
    refusal_of_field(ana.post("batch"), "count")


def test_over_the_cap_nothing_is_made(in_app: Callable[..., Caller]) -> None:
    """Guard: create.lua counts before it adds."""
    caller = in_app(max_active=5)
    first = caller.create(expires_in=30)
    assert caller.post("batch", count=4, expires_in=60).status_code == 201
    for verb, body, soon, late in (("create", {}, 1, 30), ("batch", {"count": 2}, 50, 60)):
        answer = caller.post(verb, **body)
        problem_in(answer, 429, "too_many_active")
        assert soon <= int(answer.headers["Retry-After"]) <= late
    # A place is free as soon as one token is used, and a batch of two does not fit in it.
    assert caller.post("validate", token=first["token"]).status_code == 200
    problem_in(caller.post("batch", count=2), 429, "too_many_active")
    assert caller.post("create").status_code == 201
    assert len(body_of(caller.get())["items"]) == 6


def test_a_held_token_is_outstanding_and_a_revoked_one_is_not(
    in_app: Callable[..., Caller],
) -> None:
    caller = in_app(max_active=1)
    token = caller.create()["token"]
    held = caller.hold(token)
    problem_in(caller.post("create"), 429, "too_many_active")
    assert caller.post("release", reservation=held).status_code == 204
    assert caller.post("revoke", token=token).status_code == 204
    held = caller.hold(caller.create()["token"])
    assert caller.post("commit", reservation=held).status_code == 200
    assert caller.post("create").status_code == 201


# Reserve, commit, release.


def test_a_reservation_says_what_it_holds(ana: Caller, berta: Caller) -> None:
    token = ana.create(purpose="pay", data={"room": 7})
    answer = berta.post("reserve", token=token["token"], purpose="pay", lease_seconds=60)
    assert answer.status_code == 200
    held = body_of(answer)
    assert set(held) == HELD
    assert RESERVATION.fullmatch(held["reservation"])
    assert (held["id"], held["issued_by"]) == (token["id"], ana.id)
    assert (held["purpose"], held["subject"], held["data"]) == ("pay", ana.id, {"room": 7})
    left = moment(held["lease_expires_at"]).timestamp() - time.time()
    assert 30 < left <= 61

    committed = body_of(berta.post("commit", reservation=held["reservation"]))
    assert set(committed) == VALIDATED
    assert (committed["id"], committed["replayed"]) == (token["id"], False)
    assert ana.receipt(token["id"])["consumed_by"] == berta.id


@pytest.mark.parametrize("lease", [0, 61, -1, "30", 1.5, None])
def test_a_lease_has_bounds(ana: Caller, lease: Any) -> None:
    token = ana.create()["token"]
    refusal_of_field(ana.post("reserve", token=token, lease_seconds=lease), "lease_seconds")


def test_a_held_token_is_reserved_for_everyone(ana: Caller, berta: Caller) -> None:
    token = ana.create()
    held = ana.hold(token["token"], lease_seconds=20)
    answers = [
        caller.post(verb, token=token["token"])
        for caller in (ana, berta)
        for verb in ("validate", "reserve", "revoke")
    ]
    for answer in (*answers, ana.delete(token["id"])):
        problem_in(answer, 409, "token_reserved")
        assert 1 <= int(answer.headers["Retry-After"]) <= 20
    assert ana.receipt(token["id"])["state"] == "reserved"
    assert ana.post("commit", reservation=held).status_code == 200


def test_a_reservation_is_its_holders_alone(ana: Caller, berta: Caller) -> None:
    """Guard: the holder in the MAC of a reservation. Nobody learns that there is one."""
    held = ana.hold(ana.create()["token"])
    for verb in ("commit", "release"):
        problem_in(berta.post(verb, reservation=held), 404, "token_unknown")
    assert ana.post("commit", reservation=held).status_code == 200


def test_a_released_token_can_be_used_again(ana: Caller, berta: Caller) -> None:
    token = ana.create()["token"]
    held = ana.hold(token)
    answer = ana.post("release", reservation=held)
    assert (answer.status_code, answer.data) == (204, b"")
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=held), 409, "lease_ended")
    assert berta.post("validate", token=token).status_code == 200


def test_a_committed_token_is_used(ana: Caller, berta: Caller) -> None:
    token = ana.create()["token"]
    held = ana.hold(token)
    consumed = body_of(ana.post("commit", reservation=held))
    for answer in (
        ana.post("commit", reservation=held),
        ana.post("release", reservation=held),
        berta.post("validate", token=token),
    ):
        problem = problem_in(answer, 409, "token_already_used")
        assert moment(problem["consumed_at"]) == moment(consumed["consumed_at"])


def test_a_lease_ends_by_itself(ana: Caller, berta: Caller) -> None:
    """And whoever held it is told that it ended, not that it was used, whoever uses it then."""
    token = ana.create()
    held = ana.hold(token["token"], lease_seconds=1)
    time.sleep(1.2)
    assert ana.receipt(token["id"])["state"] == "active"
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=held), 409, "lease_ended")
    assert berta.post("validate", token=token["token"]).status_code == 200
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=held), 409, "lease_ended")


# Introspect.


def test_introspect_looks_and_does_not_consume(ana: Caller, berta: Caller) -> None:
    token = ana.create(
        purpose="pay", subject="order 7", audience=[berta.id], bind=ACTION, data={"room": 7}
    )
    for caller in (ana, berta, ana):
        answer = caller.post("introspect", token=token["token"])
        assert answer.status_code == 200
        seen = body_of(answer)
        assert 0 < seen.pop("expires_in") <= 60
        assert seen == {
            "active": True,
            "id": token["id"],
            "state": "active",
            "expires_at": token["expires_at"],
            "created_at": token["server_time"],
            "purpose": "pay",
            "audience": [berta.id],
            "subject": "order 7",
            "issued_by": ana.id,
            "bound": True,
        }
    answer = berta.post("validate", token=token["token"], purpose="pay", bind=ACTION)
    assert answer.status_code == 200


def test_a_held_token_is_active_still(ana: Caller) -> None:
    token = ana.create()["token"]
    ana.hold(token)
    seen = body_of(ana.post("introspect", token=token))
    assert (seen["active"], seen["state"], seen["bound"]) == (True, "reserved", False)


def test_what_is_not_active_is_that_and_nothing_more(ana: Caller, berta: Caller) -> None:
    """RFC 7662 section 2.2. The answers to a used, a revoked and another's token are one."""
    used, revoked, anothers = (
        ana.create()["token"],
        ana.create()["token"],
        ana.create(audience=[ana.id])["token"],
    )
    ana.post("validate", token=used)
    ana.post("revoke", token=revoked)
    for token in (used, revoked, anothers):
        answer = berta.post("introspect", token=token)
        assert (answer.status_code, answer.data) == (200, INACTIVE)


# Receipts and lists.


def test_a_receipt_follows_a_token_through_its_life(ana: Caller, berta: Caller) -> None:
    token = ana.create(purpose="pay", subject="order 7")
    receipt = ana.receipt(token["id"])
    assert receipt == {
        "id": token["id"],
        "state": "active",
        "purpose": "pay",
        "subject": "order 7",
        "created_at": token["server_time"],
        "expires_at": token["expires_at"],
        "consumed_at": None,
        "consumed_by": None,
        "replays": 0,
    }
    held = berta.hold(token["token"], purpose="pay")
    assert ana.receipt(token["id"]) == {**receipt, "state": "reserved"}
    berta.post("release", reservation=held)
    assert ana.receipt(token["id"]) == receipt
    consumed = body_of(berta.post("validate", token=token["token"], purpose="pay"))
    berta.post("validate", token=token["token"], purpose="pay")
    assert ana.receipt(token["id"]) == {
        **receipt,
        "state": "consumed",
        "consumed_at": consumed["consumed_at"],
        "consumed_by": berta.id,
        "replays": 1,
    }
    revoked = ana.create()
    ana.delete(revoked["id"])
    assert ana.receipt(revoked["id"])["state"] == "revoked"


def test_a_receipt_is_for_the_creator_and_the_audience(ana: Caller, berta: Caller) -> None:
    """To anyone else it is as if there were no such token."""
    for_anyone, for_berta = ana.create(), ana.create(audience=[berta.person.correo])
    assert ana.receipt(for_berta["id"]) == berta.receipt(for_berta["id"])
    unknown = token_problem(berta.get("/" + random_base62(ID)))
    assert token_problem(berta.get(f"/{for_anyone['id']}")) == unknown


def token_problem(answer: TestResponse) -> dict[str, Any]:
    """A refusal of a token that is unknown, but for the id of the request."""
    problem = problem_in(answer, 404, "token_unknown")
    del problem["request_id"]
    return problem


def test_a_list_is_of_ones_own_tokens_newest_first(ana: Caller, berta: Caller) -> None:
    ids = [ana.create()["id"] for _ in range(3)]
    berta.create(audience=[ana.id])
    answer = ana.get()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    page = body_of(answer)
    assert set(page) == {"items", "next_cursor"}
    assert [item["id"] for item in page["items"]] == ids[::-1]
    assert all(set(item) == RECEIPT for item in page["items"])
    assert page["next_cursor"] is None


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 20])
def test_pages_hold_every_token_once(ana: Caller, limit: int) -> None:
    """Also those of one batch, which were made in the same moment."""
    tokens = body_of(ana.post("batch", count=5, expires_in=60))["tokens"]
    tokens += [ana.create() for _ in range(2)]
    seen, query = [], {"limit": limit}
    for _ in range(len(tokens) + 1):
        page = body_of(ana.get(**query))
        assert len(page["items"]) <= limit
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert page["next_cursor"] is None
    assert len(seen) == len(tokens)
    assert set(seen) == {token["id"] for token in tokens}


def test_a_list_is_filtered_by_state_and_purpose(ana: Caller) -> None:
    tokens = {
        state: ana.create(purpose="pay") for state in ("active", "reserved", "consumed", "revoked")
    }
    tokens["expired"] = ana.create(purpose="pay", expires_in=1)
    ana.create(purpose="read")
    ana.hold(tokens["reserved"]["token"], purpose="pay")
    ana.post("validate", token=tokens["consumed"]["token"], purpose="pay")
    ana.delete(tokens["revoked"]["id"])
    time.sleep(1.2)
    for state, token in tokens.items():
        items = body_of(ana.get(state=state, purpose="pay"))["items"]
        assert [(item["id"], item["state"]) for item in items] == [(token["id"], state)]
    assert len(body_of(ana.get(purpose="pay"))["items"]) == 5
    assert len(body_of(ana.get(purpose="read"))["items"]) == 1
    assert len(body_of(ana.get(state="active"))["items"]) == 2
    assert body_of(ana.get(purpose="nothing"))["items"] == []
    # A form sends what was left empty, too.
    assert len(body_of(ana.get(state="", purpose="pay", cursor="", limit=""))["items"]) == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "used"),
        ("purpose", "A"),
        ("cursor", "x"),
        ("cursor", "-1"),
        ("cursor", "7" * 21),
        ("cursor", "inf"),
        ("limit", "0"),
        ("limit", "21"),
        ("limit", "many"),
    ],
)
def test_a_list_refuses_what_it_does_not_know(ana: Caller, field: str, value: str) -> None:
    refusal_of_field(ana.get(**{field: value}), field)


# Revoke.


@pytest.mark.parametrize("by", ["id", "token"])
def test_a_token_is_revoked_for_good(ana: Caller, by: str) -> None:
    token = ana.create()
    for _ in range(2):
        answer = ana.delete(token["id"]) if by == "id" else ana.post("revoke", token=token["token"])
        assert (answer.status_code, answer.data) == (204, b"")
    for verb in ("validate", "reserve"):
        problem_in(ana.post(verb, token=token["token"]), 410, "token_revoked")


def test_a_used_token_cannot_be_revoked(ana: Caller) -> None:
    token = ana.create()
    consumed = body_of(ana.post("validate", token=token["token"]))
    for answer in (ana.delete(token["id"]), ana.post("revoke", token=token["token"])):
        problem = problem_in(answer, 409, "token_already_used")
        assert moment(problem["consumed_at"]) == moment(consumed["consumed_at"])


def test_by_its_id_only_the_creator_revokes_a_token(ana: Caller, berta: Caller) -> None:
    """Guard: the owner in revoke.lua. An id is public, and so proves nothing."""
    token = ana.create(audience=[berta.id])
    unknown = token_problem(berta.delete(random_base62(ID)))
    assert token_problem(berta.delete(token["id"])) == unknown
    assert berta.post("validate", token=token["token"]).status_code == 200


def test_with_the_secret_the_creator_and_the_audience_revoke_a_token(
    ana: Caller, berta: Caller
) -> None:
    token = ana.create(audience=[ana.id])["token"]
    problem_in(berta.post("revoke", token=token), 403, "token_not_for_caller")
    assert ana.post("validate", token=token).status_code == 200
    for caller in (ana, berta):
        token = ana.create(audience=[berta.id])["token"]
        assert caller.post("revoke", token=token).status_code == 204


# Where a secret may travel, and what is counted and written.


def test_no_secret_travels_in_an_address(ana: Caller) -> None:
    token = ana.create()["token"]
    problem_in(ana.get("/validate", token=token), 405, "method_not_allowed")
    for path in (f"/{token}", f"/{Token.parse(token).secret}", f"/validate/{token}", "/x"):
        problem_in(ana.get(path), 404, "not_found")
        problem_in(ana.delete(path[1:]), 404, "not_found")
    assert ana.post("validate", token=token).status_code == 200


@pytest.mark.parametrize("path", ["/token/create", "/token/batch", "/token/validate"])
def test_a_body_is_read_and_an_address_is_not(ana: Caller, path: str) -> None:
    token = ana.create()["token"]
    answer = ana.client.post(path, query_string={"token": token, "count": 1}, headers=ana.headers())
    assert answer.status_code == (201 if path == "/token/create" else 422)
    assert ana.post("validate", token=token).status_code == 200


def counted(client: FlaskClient, name: str, **labels: str) -> float:
    page = client.get("/metrics")
    assert page.status_code == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if (sample.name, sample.labels) == (name, labels)
    )


def test_a_repeated_answer_is_not_counted_again(ana: Caller) -> None:
    """Counters tell tokens made and used, not calls."""
    created, validated = "onetime_tokens_created_total", "onetime_tokens_validated_total"
    before = {name: counted(ana.client, name) for name in (created, validated)}

    def more(name: str) -> float:
        return counted(ana.client, name) - before[name]

    for _ in range(2):
        token = body_of(ana.post("create", "k"))["token"]
        tokens = body_of(ana.post("batch", "l", count=3))["tokens"]
    assert more(created) == 4
    for _ in range(2):
        assert ana.post("validate", "k", token=token).status_code == 200
    assert more(validated) == 1
    held = ana.hold(tokens[0]["token"])
    assert more(validated) == 1
    for _ in range(2):
        assert ana.post("commit", "k", reservation=held).status_code == 200
    assert more(validated) == 2
    ana.post("introspect", token=tokens[1]["token"])
    ana.post("revoke", token=tokens[1]["token"])
    assert (more(created), more(validated)) == (4, 2)


def test_refusals_of_every_verb_are_counted_by_their_code(ana: Caller) -> None:
    token = ana.create(purpose="pay")["token"]
    name, code = "onetime_tokens_refused_total", "token_mismatch"
    before = counted(ana.client, name, code=code)
    for verb in ("validate", "reserve"):
        ana.post(verb, token=token)
    assert counted(ana.client, name, code=code) == before + 2


class Told:
    """A service, and the one line of its log that each call is answered with."""

    def __init__(self, service: Service, http: httpx.Client) -> None:
        self._log = service.log
        self._http = http
        self.person = enrol(http.post)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, key: str = ""
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give the body of the answer, and the line."""
        request_id = secrets.token_hex(16)
        headers = {**self.person.headers, "X-Request-ID": request_id}
        if key:
            headers["Idempotency-Key"] = key
        answer = self._http.request(method, path, json=body, headers=headers)
        until(lambda: request_id in self._log.read_text())
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        (line,) = (line for line in lines if line.get("request_id") == request_id)
        assert line["status"] == answer.status_code
        assert line["user_id"] == self.person.id
        return (answer.json() if answer.content else {}), line


@pytest.fixture
def told(service: Service) -> Iterator[Told]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield Told(service, http)


def test_each_verb_writes_an_event_that_names_the_token(told: Told) -> None:
    token, line = told.call("POST", "/token/create")
    assert (line["event"], line["token_id"]) == ("token.created", token["id"])

    presented = {"token": token["token"]}
    for verb, event in (("release", "token.released"), ("commit", "token.committed")):
        held, line = told.call("POST", "/token/reserve", presented)
        assert (line["event"], line["token_id"]) == ("token.reserved", token["id"])
        _, line = told.call("POST", f"/token/{verb}", {"reservation": held["reservation"]})
        assert (line["event"], line.get("token_id")) == (event, token["id"])

    _, line = told.call("POST", "/token/validate", presented)
    assert (line["event"], line["token_id"]) == ("token.replayed", token["id"])
    # Taking a used token back is a mistake, and no sign of a stolen one.
    _, line = told.call("DELETE", f"/token/{token['id']}")
    assert (line["event"], line["code"]) == ("token.refused", "token_already_used")

    for number, method in enumerate(("POST", "DELETE")):
        token, _ = told.call("POST", "/token/create", {"expires_in": 60})
        path = ("/token/revoke", f"/token/{token['id']}")[number]
        body = ({"token": token["token"]}, None)[number]
        _, line = told.call(method, path, body)
        assert (line["event"], line["token_id"]) == ("token.revoked", token["id"])
        _, line = told.call("POST", "/token/validate", {"token": token["token"]})
        assert (line["event"], line["code"]) == ("token.refused", "token_revoked")


def test_a_repeated_answer_is_written_as_one(told: Told) -> None:
    token, _ = told.call("POST", "/token/create", {"expires_in": 60})
    for replayed in (False, True):
        _, line = told.call("POST", "/token/validate", {"token": token["token"]}, key="k")
        assert (line["event"], line["replayed"]) == ("token.validated", replayed)


def test_no_secret_of_a_token_is_written(told: Told, service: Service) -> None:
    """S60. Not its text, not its data, not a reservation and not an idempotency key."""
    data, key = secrets.token_hex(12), secrets.token_hex(12)
    token, _ = told.call("POST", "/token/create", {"data": {"d": data}}, key)
    held, _ = told.call("POST", "/token/reserve", {"token": token["token"]}, key)
    told.call("POST", "/token/commit", {"reservation": held["reservation"]}, key)
    told.call("POST", "/token/release", {"reservation": held["reservation"]})
    told.call("POST", "/token/validate", {"token": token["token"]}, key)
    written = service.log.read_text()
    assert token["id"] in written
    for secret in (
        Token.parse(token["token"]).secret,
        held["reservation"][-34:],
        data,
        key,
    ):
        assert secret not in written
