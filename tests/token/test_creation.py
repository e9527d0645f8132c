"""Creating a token: every field, its bounds, and the response."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from tests.stage.callers import Caller, body_of
from tests.stage.people import PASSWORD, new_correo
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.times import moment, seconds_between
from tests.stage.tokens import CREATED, PUBLIC_ID, TOKEN
from tokenservice.onetime.format import Token


def test_a_client_of_the_seed_works_unchanged(client: FlaskClient) -> None:
    """It reads ``access_token`` and ``token``, and takes 200 for "valid, now consumed"."""
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
    response = ana.client.post(
        "/token/create", data=body, content_type="application/json", headers=ana.headers()
    )
    assert response.status_code == 201
    token = body_of(response)
    assert set(token) == CREATED
    assert TOKEN.fullmatch(token["token"])
    assert PUBLIC_ID.fullmatch(token["id"])
    assert token["expires_in"] == 10
    assert seconds_between(token["server_time"], token["expires_at"]) == 10
    assert abs(moment(token["server_time"]).timestamp() - time.time()) < 30
    assert (token["purpose"], token["audience"], token["subject"]) == (None, None, ana.id)
    receipt = urljoin("/token/create", response.headers["Location"])
    assert body_of(ana.client.get(receipt, headers=ana.headers()))["id"] == token["id"]


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the shortest life": ({"expires_in": 1}, {"expires_in": 1}),
    "the longest life": ({"expires_in": 86_400}, {"expires_in": 86_400}),
    "a purpose of 1": ({"purpose": "a"}, {"purpose": "a"}),
    "a purpose of 64": ({"purpose": "a0._:-" * 10 + "wxyz"}, {"purpose": "a0._:-" * 10 + "wxyz"}),
    "a subject of 1": ({"subject": "7"}, {"subject": "7"}),
    "a subject of 255": ({"subject": "ñ" * 255}, {"subject": "ñ" * 255}),
    "a subject with space around it": ({"subject": "  order 7 "}, {"subject": "order 7"}),
    "16 members": (
        {
            "audience": [f"m{number}@example.com" for number in range(16)],
            "allow_unregistered": True,
        },
        {"audience": [f"m{number}@example.com" for number in range(16)]},
    ),
    "a correo in another spelling": (
        {"audience": ["  NOBODY@Example.COM "], "allow_unregistered": True},
        {"audience": ["nobody@example.com"]},
    ),
    "an id in another spelling": (
        {"audience": ["0190A7C0-0000-7000-8000-00000000ABCD"]},
        {"audience": ["0190a7c0-0000-7000-8000-00000000abcd"]},
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_create_takes_each_optional_field(ana: Caller, name: str) -> None:
    fields, expected = FIELDS[name]
    response = ana.post("create", **fields)
    assert response.status_code == 201
    token = body_of(response)
    assert {field: token[field] for field in expected} == expected
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
    "a member that is no address": ("audience", ["ana"]),
    "a member that is no text": ("audience", [7]),
    "an audience that is no list": ("audience", "ana@example.com"),
    "a flag that is 1": ("allow_unregistered", 1),
    "a flag in words": ("allow_unregistered", "true"),
    "a flag that is null": ("allow_unregistered", None),
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
def test_create_names_the_wrong_field(ana: Caller, name: str) -> None:
    field, value = WRONG_FIELDS[name]
    refusal_of_field(ana.post("create", **{field: value}), field)
    refusal_of_field(ana.post("batch", **{"count": 1, field: value}), field)


def test_the_longest_and_the_default_life_are_settings(in_app: Callable[..., Caller]) -> None:
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
def test_data_is_returned_unchanged(ana: Caller, name: str) -> None:
    token = ana.create(data=DATA[name])["token"]
    response = ana.post("validate", token=token)
    assert response.status_code == 200
    assert body_of(response)["data"] == DATA[name]
    assert "\\u" not in response.text


def test_data_nests_as_deep_as_any_body_and_no_deeper(ana: Caller) -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"n": nested(depth - 1)} if depth else {}

    token = ana.create(data=nested(31))["token"]
    assert body_of(ana.post("validate", token=token))["data"] == nested(31)
    problem_in(ana.post("create", data=nested(32)), 400, "not_json")


def test_a_token_is_shown_once(ana: Caller) -> None:
    token = ana.create(data={"room": 7})["token"]
    secret = Token.parse(token).secret
    for response in (
        ana.get(f"/{Token.parse(token).id}"),
        ana.get(),
        ana.post("introspect", token=token),
        ana.post("reserve", token=token),
    ):
        assert response.status_code == 200
        assert secret not in response.text
