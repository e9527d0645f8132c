"""Registration where it is closed: accounts come from commands alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.commands import output
from tests.stage.people import PASSWORD, new_correo
from tests.stage.problems import problem_in
from tokenservice.auth import CLOSED


@pytest.fixture(scope="module")
def closed(app: Flask, make_app: Callable[..., Flask]) -> Flask:
    return make_app(registration="closed")


def account(**fields: Any) -> dict[str, Any]:
    return {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD, **fields}


def test_a_closed_registration_says_so_and_nothing_else(closed: Flask, client: FlaskClient) -> None:
    """Guard: ``where_open``, before the body is read. A taken address gets the same."""
    taken = account()
    assert client.post("/auth/register", json=taken).status_code == 201
    told = []
    for body in (account(), taken, account(correo="x"), account(password="x"), {}, [], None):
        response = closed.test_client().post("/auth/register", json=body)
        problem = problem_in(response, 403, "registration_closed")
        del problem["request_id"]
        told.append(problem)
    assert all(problem == told[0] for problem in told)


def test_a_closed_registration_makes_no_account(closed: Flask, client: FlaskClient) -> None:
    new = account()
    problem_in(closed.test_client().post("/auth/register", json=new), 403)
    assert client.post("/auth/register", json=new).status_code == 201


def test_commands_go_on_where_registration_is_closed(closed: Flask) -> None:
    new, run = account(), closed.test_cli_runner().invoke
    words = ["users", "create", new["correo"], "--nombre", "Ana", "--password-stdin"]
    output(run(args=words, input=PASSWORD))
    seeded = account()
    output(run(args=["users", "seed", "-"], input=json.dumps(seeded)))
    for correo in (new["correo"], seeded["correo"]):
        login = {"correo": correo, "password": PASSWORD}
        assert closed.test_client().post("/auth/login", json=login).status_code == 200


def test_only_the_document_of_a_closed_service_says_so(closed: Flask, client: FlaskClient) -> None:
    described = [
        caller.get("/openapi.json").get_json()["info"]["description"]
        for caller in (closed.test_client(), client)
    ]
    assert described[0] == described[1] + CLOSED
