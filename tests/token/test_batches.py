"""Batches, and the cap on the outstanding tokens of an account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.stage.callers import Caller, body_of
from tests.stage.problems import problem_in, refusal_of_field


@pytest.mark.parametrize("count", [1, 100])
def test_the_tokens_of_a_batch_differ_only_in_id_and_secret(ana: Caller, count: int) -> None:
    response = ana.post("batch", count=count, purpose="pay", expires_in=60)
    assert response.status_code == 201
    tokens = body_of(response)["tokens"]
    assert len({token["id"] for token in tokens}) == count
    assert len({token.pop("token") for token in tokens}) == count
    assert len({token.pop("id") for token in tokens}) == count
    assert all(token == tokens[0] for token in tokens)
    assert tokens[0]["purpose"] == "pay"


@pytest.mark.parametrize("count", [0, 101, -1, "3", 1.5, None, True])
def test_a_batch_has_bounds(ana: Caller, count: Any) -> None:
    refusal_of_field(ana.post("batch", count=count), "count")
    assert body_of(ana.get())["items"] == []


def test_a_batch_requires_a_count(ana: Caller) -> None:
    refusal_of_field(ana.post("batch"), "count")


def test_nothing_is_created_over_the_cap(in_app: Callable[..., Caller]) -> None:
    """Guard: create.lua counts before it adds."""
    caller = in_app(max_active=5)
    first = caller.create(expires_in=30)
    assert caller.post("batch", count=4, expires_in=60).status_code == 201
    for verb, body, soon, late in (("create", {}, 1, 30), ("batch", {"count": 2}, 50, 60)):
        response = caller.post(verb, **body)
        problem_in(response, 429, "too_many_active")
        assert soon <= int(response.headers["Retry-After"]) <= late
    # A consumed token frees its place at once, and a batch of two does not fit in one place.
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


@pytest.mark.parametrize(("most", "count"), [(1, 2), (5, 6), (5, 100), (99, 100)])
def test_a_batch_larger_than_the_cap_is_an_error_of_its_count(
    in_app: Callable[..., Caller], most: int, count: int
) -> None:
    """Waiting would not help. Red if the response has a Retry-After."""
    caller = in_app(max_active=most)
    response = caller.post("batch", count=count)
    problem = problem_in(response, 422, "validation_failed")
    assert set(problem["errors"]) == {"count"}
    assert problem["max_active"] == most
    assert "Retry-After" not in response.headers
    assert body_of(caller.get())["items"] == []


@pytest.mark.parametrize(("language", "word"), [("es", "cuenta"), ("en", "account")])
def test_that_error_is_in_the_language_of_the_client(
    in_app: Callable[..., Caller], language: str, word: str
) -> None:
    caller = in_app(max_active=2)
    headers = caller.headers(**{"Accept-Language": language})
    response = caller.client.post("/token/batch", json={"count": 3}, headers=headers)
    [text] = problem_in(response, 422)["errors"]["count"]
    assert "max_active" in text
    assert word in text


def test_a_batch_as_large_as_the_cap_fits_an_account_without_tokens(
    in_app: Callable[..., Caller],
) -> None:
    caller = in_app(max_active=5)
    assert caller.post("batch", count=5).status_code == 201
    problem_in(caller.post("batch", count=5), 429, "too_many_active")
    problem_in(caller.post("batch", count=1), 429, "too_many_active")


def test_a_batch_larger_than_the_cap_is_refused_without_redis(
    in_app: Callable[..., Caller],
) -> None:
    """It is a 422 even while Redis is away."""
    caller = in_app(max_active=5, redis_url="redis://127.0.0.1:1/0")
    problem_in(caller.post("batch", count=6), 422, "validation_failed")
