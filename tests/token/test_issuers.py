"""The issuers that a presenter names: a token of any other account is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

import dev
from tests.stage.callers import Caller, body_of
from tests.stage.people import enrol, new_correo
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.proxy import Proxy
from tests.stage.queries import recorded
from tests.stage.tokens import INACTIVE
from tokenservice.auth.models import User
from tokenservice.extensions import db

UNKNOWN_ID = "0190a7c0-0000-7000-8000-00000000abcd"
VERBS = ["consume", "validate", "reserve"]


@pytest.mark.parametrize("named_by", ["id", "correo", "spelling"])
@pytest.mark.parametrize("verb", VERBS)
def test_another_issuer_is_refused_and_nothing_is_consumed(
    ana: Caller, berta: Caller, verb: str, named_by: str
) -> None:
    """Guard: ``lists`` in mismatch()."""
    token = ana.create()
    wrong, right = (
        {
            "id": person.id,
            "correo": person.person.correo,
            "spelling": f" {person.person.correo.upper()} ",
        }[named_by]
        for person in (berta, ana)
    )
    for issuers in ([wrong], [wrong, UNKNOWN_ID, new_correo()]):
        response = berta.post(verb, token=token["token"], issued_by=issuers)
        assert problem_in(response, 403, "token_mismatch")["field"] == "issued_by"
        assert ana.id not in response.text
        assert berta.post("introspect", token=token["token"], issued_by=issuers).data == INACTIVE
    assert ana.receipt(token["id"])["state"] == "active"
    issuers = [wrong, UNKNOWN_ID, right]
    seen = body_of(berta.post("introspect", token=token["token"], issued_by=issuers))
    assert (seen["active"], seen["issued_by"]) == (True, ana.id)
    response = berta.post(verb, token=token["token"], issued_by=issuers)
    assert response.status_code == 200
    assert body_of(response)["issued_by"] == ana.id


@pytest.mark.parametrize("verb", VERBS)
def test_an_address_without_an_account_is_no_issuers(ana: Caller, berta: Caller, verb: str) -> None:
    """It is refused as the address of another account is: neither tells of the account."""
    token = ana.create()["token"]
    told = []
    for address in (new_correo(), berta.person.correo):
        problem = problem_in(berta.post(verb, token=token, issued_by=[address]), 403)
        del problem["request_id"]
        told.append(problem)
    assert told[0] == told[1]
    assert told[0]["field"] == "issued_by"


@pytest.mark.parametrize("verb", [*VERBS, "introspect"])
@pytest.mark.parametrize(
    "issuers",
    [[], [UNKNOWN_ID] * 17, UNKNOWN_ID, "ana@example.com", None, [None], ["ana"], [7], {}],
    ids=["none", "17", "an id", "an address", "null", "a null", "a name", "a number", "an object"],
)
def test_a_list_of_1_to_16_members_is_taken(ana: Caller, verb: str, issuers: Any) -> None:
    refusal_of_field(ana.post(verb, token="x", issued_by=issuers), "issued_by")


def test_other_calls_take_no_issuers(ana: Caller) -> None:
    for verb in ("create", "revoke"):
        refusal_of_field(
            ana.post(verb, issued_by=[ana.id], **({"token": "x"} if verb == "revoke" else {})),
            "issued_by",
        )


def test_a_key_stands_for_the_issuers(ana: Caller, berta: Caller) -> None:
    token = ana.create()["token"]
    named = {"token": token, "issued_by": [ana.person.correo]}
    first, again = (body_of(berta.post("consume", "k", **named)) for _ in range(2))
    assert again == {**first, "replayed": True}
    for other in ({}, {"issued_by": [ana.id]}, {"issued_by": [ana.person.correo, berta.id]}):
        response = berta.post("consume", "k", token=token, **other)
        problem_in(response, 422, "idempotency_mismatch")


def test_a_repeat_gets_its_response_though_the_address_has_moved(
    app: Flask, ana: Caller, berta: Caller
) -> None:
    token = ana.create()["token"]
    named = {"token": token, "issued_by": [ana.person.correo]}
    first = body_of(berta.post("consume", "k", **named))
    with app.app_context(), db.engine.begin() as connection:
        moved = update(User).where(User.id == ana.id).values(correo=new_correo())
        connection.execute(moved)
    assert body_of(berta.post("consume", "k", **named)) == {**first, "replayed": True}


@pytest.fixture
def queries(client: FlaskClient) -> Iterator[list[str]]:
    with recorded(client.application, "SELECT users.correo, users.id") as seen:
        yield seen


def test_only_an_address_costs_a_query(ana: Caller, queries: list[str]) -> None:
    texts = [ana.create()["token"] for _ in range(2)]
    del queries[:]
    ana.post("introspect", token=texts[0], issued_by=[ana.id])
    assert ana.post("consume", token=texts[0], issued_by=[ana.id]).status_code == 200
    assert queries == []
    named = [ana.person.correo, new_correo(), UNKNOWN_ID]
    assert ana.post("consume", token=texts[1], issued_by=named).status_code == 200
    assert len(queries) == 1


def test_without_postgres_only_an_address_is_refused(
    app: Flask, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Nothing is consumed, and no other issuer is believed."""
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        made = make_app(database_url=url, web_threads=8)
        caller = Caller(made.test_client(), enrol(made.test_client().post))
        token = caller.create()
        proxy.refuse()
        for verb in (*VERBS, "introspect"):
            named = [caller.person.correo, caller.id]
            response = caller.post(verb, token=token["token"], issued_by=named)
            problem_in(response, 503, "database_unavailable")
        assert caller.receipt(token["id"])["state"] == "active"
        response = caller.post("consume", token=token["token"], issued_by=[caller.id])
        assert response.status_code == 200
        proxy.mend()
        with made.app_context():
            db.engine.dispose()
