"""The audience of a new token: an address becomes the id of its account, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

import dev
from tests.stage.callers import Caller, body_of
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.proxy import Proxy
from tests.stage.queries import recorded
from tokenservice.auth.models import User
from tokenservice.extensions import db
from tokenservice.postgres import timeouts

UNKNOWN_ID = "0190a7c0-0000-7000-8000-00000000abcd"
NO_ACCOUNT = "No account has this address, and allow_unregistered is not true."


def register(client: FlaskClient, correo: str) -> Caller:
    """A caller whose account has this address."""
    account = {"nombre": "Luis", "correo": correo, "password": PASSWORD}
    registered = body_of(client.post("/auth/register", json=account))
    login = client.post("/auth/login", json={"correo": correo, "password": PASSWORD})
    headers = {"Authorization": f"Bearer {body_of(login)['access_token']}"}
    return Caller(client, Person(registered["id"], correo, headers))


def change(app: Flask, user_id: str, **values: Any) -> None:
    """Change an account in Postgres itself."""
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(update(User).where(User.id == user_id).values(**values))


def test_an_address_becomes_the_id_of_its_account(ana: Caller, berta: Caller) -> None:
    """In any spelling, once, and beside ids. Callers and readers are recognised by the id."""
    named = [f" {berta.person.correo.upper()} ", UNKNOWN_ID, berta.person.correo, berta.id]
    token = ana.create(audience=named)
    assert token["audience"] == [berta.id, UNKNOWN_ID]
    assert body_of(berta.post("introspect", token=token["token"]))["audience"] == token["audience"]
    assert berta.receipt(token["id"]) == ana.receipt(token["id"])
    problem_in(ana.post("validate", token=token["token"]), 403, "token_not_for_caller")
    assert berta.post("validate", token=token["token"]).status_code == 200


def test_a_token_stays_with_the_account_when_the_address_moves(
    app: Flask, ana: Caller, berta: Caller
) -> None:
    """An operator gives the account another address, and somebody else registers the old one."""
    correo = berta.person.correo
    token = ana.create(audience=[correo])
    change(app, berta.id, correo=new_correo())
    other = register(ana.client, correo)
    problem_in(other.post("validate", token=token["token"]), 403, "token_not_for_caller")
    problem_in(other.get(f"/{token['id']}"), 404, "token_unknown")
    assert berta.receipt(token["id"])["state"] == "active"
    assert berta.post("validate", token=token["token"]).status_code == 200


def test_the_address_of_a_disabled_account_becomes_its_id(
    app: Flask, ana: Caller, berta: Caller
) -> None:
    """It may be enabled again, and a creator does not learn of it."""
    change(app, berta.id, is_active=False)
    assert ana.create(audience=[berta.person.correo])["audience"] == [berta.id]


@pytest.mark.parametrize("verb", ["create", "batch"])
@pytest.mark.parametrize("allows", [{}, {"allow_unregistered": False}])
def test_an_address_without_an_account_is_refused(
    ana: Caller, berta: Caller, verb: str, allows: dict[str, bool]
) -> None:
    """In both languages; nothing is created, and the key may be used for the corrected call."""
    count = {"count": 2} if verb == "batch" else {}
    correo = new_correo()
    named = [berta.person.correo, correo, UNKNOWN_ID, correo]
    for language in ("en", "es"):
        response = ana.client.post(
            f"/token/{verb}",
            json={"audience": named, **allows, **count},
            headers=ana.headers("k", **{"Accept-Language": language}),
        )
        errors = problem_in(response, 422, "validation_failed")["errors"]
        assert set(errors) == {"audience"}
        assert set(errors["audience"]) == {"1", "3"}
        english = errors["audience"]["1"] == [NO_ACCOUNT]
        assert english == (language == "en")
        assert correo not in response.text
    assert body_of(ana.get())["items"] == []
    assert ana.post(verb, "k", audience=[berta.id], **count).status_code == 201


def test_an_unregistered_address_that_is_allowed_is_for_the_account_that_registers_it_first(
    ana: Caller, berta: Caller
) -> None:
    correo = new_correo()
    allowed = {"audience": [correo, berta.person.correo], "allow_unregistered": True}
    token = ana.create(**allowed)
    assert token["audience"] == [correo, berta.id]
    luis = register(ana.client, correo)
    assert luis.receipt(token["id"])["state"] == "active"
    assert luis.post("validate", token=token["token"]).status_code == 200
    assert ana.create(**allowed)["audience"] == [luis.id, berta.id]


def test_a_repeated_create_keeps_the_audience_that_the_token_is_bound_to(ana: Caller) -> None:
    """Though the address has an account by then."""
    correo = new_correo()
    fields = {"audience": [correo], "allow_unregistered": True}
    first = body_of(ana.post("create", "k", **fields))
    luis = register(ana.client, correo)
    again = body_of(ana.post("create", "k", **fields))
    assert (again["id"], again["replayed"]) == (first["id"], True)
    assert again["audience"] == first["audience"] == [correo]
    # Another request, even if it now would be bound to the same.
    for other in ({"audience": [correo]}, {"audience": [luis.id], "allow_unregistered": True}):
        problem_in(ana.post("create", "k", **other), 422, "idempotency_mismatch")
    assert luis.post("validate", token=again["token"]).status_code == 200


def test_refused_addresses_count_in_the_create_limit(
    limited: Callable[..., FlaskClient],
) -> None:
    """So nobody learns more of who has an account than the limit allows."""
    client = limited(rate_limit_create="2 per minute")
    caller = Caller(client, enrol(client.post))
    for _ in range(2):
        refusal_of_field(caller.post("create", audience=[new_correo()]), "audience")
    for verb in ("create", "batch"):
        problem_in(caller.post(verb, audience=[new_correo()]), 429, "rate_limited")


def test_only_a_caller_learns_whether_an_address_has_an_account(ana: Caller) -> None:
    for correo in (ana.person.correo, new_correo()):
        problem_in(ana.client.post("/token/create", json={"audience": [correo]}), 401)


@pytest.fixture
def queries(client: FlaskClient) -> Iterator[list[str]]:
    with recorded(client.application, own=True) as seen:
        yield seen


@pytest.mark.usefixtures("always_fresh")
def test_only_an_address_costs_a_query(ana: Caller, queries: list[str]) -> None:
    """Guard: ids are taken as they are, and need not exist."""
    ana.create()
    del queries[:]
    for fields in ({}, {"audience": [UNKNOWN_ID]}, {"allow_unregistered": True}):
        ana.create(**fields)
    assert queries == []
    ana.create(audience=[ana.person.correo, f"{ana.person.correo}.mx", UNKNOWN_ID], **fields)
    assert len([query for query in queries if "SET LOCAL" not in query]) == 1


def test_without_postgres_only_an_address_is_refused(
    app: Flask,
    postgres: dev.Postgres,
    make_app: Callable[..., Flask],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hung, and refusing. The caller is known, so that its own account costs no query."""
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        made = make_app(database_url=url, web_threads=8)
        caller = Caller(made.test_client(), enrol(made.test_client().post))
        caller.create()

        def both(**fields: Any) -> list[TestResponse]:
            return [caller.post("create", **fields), caller.post("batch", count=2, **fields)]

        monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 0.9)  # The service does not wait longer.
        for fault in (proxy.hang, proxy.refuse):
            fault()
            for allows in ({}, {"allow_unregistered": True}):
                for response in both(audience=[caller.person.correo], **allows):
                    problem_in(response, 503, "database_unavailable")
                    assert response.headers["Retry-After"] == "1"
            for response in (*both(), *both(audience=[caller.id])):
                assert response.status_code == 201
        proxy.mend()
        with made.app_context():
            db.engine.dispose()
