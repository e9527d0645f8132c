"""Consume and validate: two paths of one call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.callers import Caller, body_of
from tests.stage.people import enrol
from tests.stage.problems import problem_in
from tests.stage.tokens import VALIDATED

PATHS = [("consume", "validate"), ("validate", "consume")]


@pytest.mark.parametrize(("first", "second"), PATHS)
def test_a_token_consumed_by_one_path_is_used_on_the_other(
    ana: Caller, first: str, second: str
) -> None:
    token = ana.create(data={"room": 7})["token"]
    response = body_of(ana.post(first, token=token))
    assert set(response) == VALIDATED
    assert (response["valid"], response["data"]) == (True, {"room": 7})
    problem_in(ana.post(second, token=token), 409, "token_already_used")


@pytest.mark.parametrize(("first", "second"), PATHS)
def test_a_repeat_by_the_other_path_is_a_replay(ana: Caller, first: str, second: str) -> None:
    """Guard: the verb in the name of an idempotency key, which is not the path."""
    token, other = (ana.create()["token"] for _ in range(2))
    before = body_of(ana.post(first, "k", token=token))
    after = body_of(ana.post(second, "k", token=token))
    assert after == {**before, "replayed": True}
    problem_in(ana.post(second, "k", token=other), 422, "idempotency_mismatch")


def test_both_paths_have_one_limit(limited: Callable[..., FlaskClient], app: Flask) -> None:
    client = limited(rate_limit_validate="2 per minute")
    caller = Caller(client, enrol(client.post))
    for path in ("consume", "validate"):
        problem_in(caller.post(path, token="x"), 422, "token_malformed")
    for path in ("consume", "validate"):
        problem_in(caller.post(path, token="x"), 429, "rate_limited")


def test_neither_path_is_marked_as_deprecated(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    consume, validate = (paths[f"/token/{path}"]["post"] for path in ("consume", "validate"))
    assert (consume["operationId"], validate["operationId"]) == ("consumeToken", "validateToken")
    described = {"operationId", "summary", "description", "tags"}
    assert {name: part for name, part in consume.items() if name not in described} == {
        name: part for name, part in validate.items() if name not in described
    }
    assert "deprecated" not in validate
