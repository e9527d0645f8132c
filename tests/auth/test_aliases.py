"""The names of an account's fields in two languages: ``name`` and ``email`` beside the seed's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.stage.limits import DEFAULTS, assert_limited, log_in
from tests.stage.people import PASSWORD, WRONG_PASSWORD, Person, new_correo
from tests.stage.problems import problem_in

NAMES = [("nombre", "correo"), ("name", "email"), ("nombre", "email"), ("name", "correo")]


@pytest.mark.parametrize(("name", "email"), NAMES)
def test_either_name_of_a_field_is_read(client: FlaskClient, name: str, email: str) -> None:
    """Responses keep the names of the first version."""
    correo = new_correo()
    given = {name: " Ana ", email: correo.upper(), "password": PASSWORD}
    registered = client.post("/auth/register", json=given)
    assert registered.status_code == 201
    assert set(registered.json) == {"id", "nombre", "correo", "is_active", "created_at"}
    assert (registered.json["nombre"], registered.json["correo"]) == ("Ana", correo)
    login = client.post("/auth/login", json={email: correo, "password": PASSWORD})
    assert login.status_code == 200


@pytest.mark.parametrize(
    ("path", "both"),
    [
        ("register", ("nombre", "name")),
        ("register", ("correo", "email")),
        ("login", ("correo", "email")),
    ],
)
@pytest.mark.parametrize("language", ["es", "en"])
def test_both_names_of_a_field_are_refused(
    client: FlaskClient, person: Person, path: str, both: tuple[str, str], language: str
) -> None:
    """Even if they say the same: a program and a proxy could each read another one."""
    given = {"nombre": "Ana"} if path == "register" else {}
    given |= {"correo": person.correo, "password": PASSWORD}
    given |= {both[1]: given[both[0]]}
    headers = {"Accept-Language": language}
    response = client.post(f"/auth/{path}", json=given, headers=headers)
    errors = problem_in(response, 422, "validation_failed")["errors"]
    assert set(errors) == {both[1]}
    assert PASSWORD not in response.text


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, {"nombre", "correo"}),
        ({"name": "", "email": "x"}, {"nombre", "correo"}),
        ({"name": 7, "email": None}, {"nombre", "correo"}),
        ({"Name": "Ana", "e-mail": "a@example.com"}, {"nombre", "correo", "Name", "e-mail"}),
    ],
)
def test_a_wrong_value_is_named_by_the_field(
    client: FlaskClient, given: dict[str, Any], fields: set[str]
) -> None:
    response = client.post("/auth/register", json={**given, "password": PASSWORD})
    assert set(problem_in(response, 422, "validation_failed")["errors"]) == fields


def test_a_login_has_no_name(client: FlaskClient, person: Person) -> None:
    given = {"email": person.correo, "name": "Ana", "password": PASSWORD}
    response = client.post("/auth/login", json=given)
    assert set(problem_in(response, 422, "validation_failed")["errors"]) == {"name"}


@pytest.mark.usefixtures("counters")
def test_a_guess_counts_for_the_account_under_either_name(
    limited: Callable[..., FlaskClient], person: Person
) -> None:
    """Guard: ``account`` in login_limits. Otherwise guesses would count for their sender alone."""
    client = limited(**DEFAULTS)
    for number in range(5):
        field = ("email", "correo")[number % 2]
        guess = {field: person.correo, "password": WRONG_PASSWORD}
        assert client.post("/auth/login", json=guess).status_code == 401
    guess = {"email": person.correo, "password": PASSWORD}
    assert_limited(client.post("/auth/login", json=guess), "login")
    assert_limited(log_in(client, person.correo, PASSWORD), "login")


@pytest.mark.parametrize("request_name", ["RegisterRequest", "LoginRequest"])
def test_the_document_offers_either_name(client: FlaskClient, request_name: str) -> None:
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    schema = schemas[request_name]
    pairs = {"correo": "email"}
    if request_name == "RegisterRequest":
        pairs["nombre"] = "name"
    assert schema["required"] == ["password"]
    assert {*pairs, *pairs.values(), "password"} == set(schema["properties"])
    offered = [{name["required"][0] for name in either["oneOf"]} for either in schema["allOf"]]
    assert sorted(map(sorted, offered)) == sorted(sorted(pair) for pair in pairs.items())
    assert set(schemas["AccountResponse"]["properties"]) >= {"nombre", "correo"}
    assert not {"name", "email"} & set(schemas["AccountResponse"]["properties"])
