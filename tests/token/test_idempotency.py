"""Repeated calls under an idempotency key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.stage.callers import Caller, body_of
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.times import seconds_between
from tests.stage.tokens import CREATED, lasting


def test_a_repeated_validate_gets_its_response_again(ana: Caller) -> None:
    token = ana.create(data={"room": 7})
    first, again = (body_of(ana.post("validate", "k", token=token["token"])) for _ in range(2))
    assert (first.pop("replayed"), again.pop("replayed")) == (False, True)
    assert first == again
    assert ana.receipt(token["id"])["replays"] == 0


def test_another_caller_or_key_does_not_get_it(ana: Caller, berta: Caller) -> None:
    """Guard: the caller in the name of a key."""
    token = ana.create()["token"]
    assert ana.post("validate", "k", token=token).status_code == 200
    for caller, key in ((ana, None), (ana, "K"), (berta, "k"), (berta, None)):
        response = caller.post("validate", key, token=token)
        problem_in(response, 409, "token_already_used")


def test_a_key_is_remembered_for_its_window(in_app: Callable[..., Caller]) -> None:
    """After that it may stand for another call; a consumed token still gets its response."""
    for seconds in (60, 1):
        caller = in_app(idempotency_window_seconds=seconds)
        token, other = (caller.create()["token"] for _ in range(2))
        assert caller.post("validate", "k", token=token).status_code == 200
        if seconds > 1:  # The other may be over by now.
            problem_in(caller.post("validate", "k", token=other), 422, "idempotency_mismatch")
    time.sleep(1.2)
    assert body_of(caller.post("validate", "k", token=other))["replayed"] is False
    assert body_of(caller.post("validate", "k", token=token))["replayed"] is True


def test_a_repeated_create_makes_nothing_new(ana: Caller) -> None:
    fields = {"expires_in": 60, "purpose": "pay", "data": {"n": 1}}
    first, again = (ana.post("create", "k", **fields) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert lasting(body_of(first)) == lasting(body_of(again))
    assert len(body_of(ana.get())["items"]) == 1
    token = body_of(again)["token"]
    assert ana.post("validate", token=token, purpose="pay").status_code == 200


#: A call about a token between the create and its repeat, and the state after it.
MEANWHILE = {"": "active", "reserve": "reserved", "validate": "consumed", "revoke": "revoked"}


@pytest.mark.parametrize("verb", MEANWHILE)
def test_a_repeated_create_says_what_is_so_now(ana: Caller, verb: str) -> None:
    first = ana.post("create", "k", expires_in=60)
    token = body_of(first)
    assert (token["state"], token["replayed"], token["expires_in"]) == ("active", False, 60)
    if verb:
        assert ana.post(verb, token=token["token"]).status_code < 300
    time.sleep(0.01)
    response = ana.post("create", "k", expires_in=60)
    again = body_of(response)
    assert (response.status_code, set(again)) == (201, CREATED)
    assert (again["state"], again["replayed"]) == (MEANWHILE[verb], True)
    assert again["state"] == ana.receipt(token["id"])["state"]
    assert seconds_between(token["server_time"], again["server_time"]) > 0
    is_alive = again["state"] in ("active", "reserved")
    left = int(seconds_between(again["server_time"], again["expires_at"]))
    assert again["expires_in"] == (left if is_alive else 0) < 60
    assert again["expires_at"] == token["expires_at"]


def test_a_repeated_create_of_an_expired_token_says_so(ana: Caller) -> None:
    token = body_of(ana.post("create", "k", expires_in=1))
    time.sleep(1)
    again = body_of(ana.post("create", "k", expires_in=1))
    assert (again["id"], again["state"], again["expires_in"]) == (token["id"], "expired", 0)
    assert seconds_between(again["expires_at"], again["server_time"]) >= 0


def test_a_repeated_batch_makes_nothing_new(ana: Caller) -> None:
    first, again = (
        body_of(ana.post("batch", "k", count=3, expires_in=60))["tokens"] for _ in range(2)
    )
    assert [lasting(token) for token in first] == [lasting(token) for token in again]
    assert [token["replayed"] for token in first + again] == [False] * 3 + [True] * 3
    assert len(body_of(ana.get())["items"]) == 3


def test_a_repeated_reserve_holds_nothing_new(ana: Caller) -> None:
    token = ana.create()["token"]
    first, again = (body_of(ana.post("reserve", "k", token=token)) for _ in range(2))
    assert first == again
    assert ana.post("release", reservation=first["reservation"]).status_code == 204
    # A response is repeated only while it is true.
    problem_in(ana.post("reserve", "k", token=token), 409, "lease_ended")


def test_a_repeated_commit_gets_its_response_again(ana: Caller) -> None:
    held = ana.hold(ana.create()["token"])
    first, again = (body_of(ana.post("commit", "k", reservation=held)) for _ in range(2))
    assert (first.pop("replayed"), again.pop("replayed")) == (False, True)
    assert first == again
    problem_in(ana.post("commit", reservation=held), 409, "token_already_used")


def test_a_key_stands_for_one_body(ana: Caller) -> None:
    """Guard: the comparison of the request in recall() and in create.lua."""
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
def test_any_other_key_is_refused(ana: Caller, key: str, verb: str) -> None:
    """Guard: ``views.KEY``. Nothing is created or consumed under a refused key."""
    token = ana.create()["token"]
    bodies = {"create": {}, "batch": {"count": 1}, "commit": {"reservation": "x"}}
    response = ana.post(verb, key, **bodies.get(verb, {"token": token}))
    refusal_of_field(response, "Idempotency-Key")
    assert len(body_of(ana.get())["items"]) == 1
    assert ana.post("validate", token=token).status_code == 200
