"""The service keys that issued and consumed a token: in its record, responses and the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.callers import Caller
from tests.stage.keys import bearer, new_key
from tests.stage.lines import copied
from tests.stage.people import Person, enrol
from tokenservice.onetime.keys import Keys


class Program(Caller):
    """A caller with a key of its person."""

    def __init__(self, client: FlaskClient, person: Person) -> None:
        made = new_key(client.post, person)
        self.key_id = made["id"]
        super().__init__(client, Person(person.id, person.correo, bearer(made["key"])))


@pytest.fixture
def one(client: FlaskClient, person: Person) -> Program:
    return Program(client, person)


@pytest.fixture
def two(client: FlaskClient, person: Person) -> Program:
    return Program(client, person)


@pytest.fixture
def human(client: FlaskClient, person: Person) -> Caller:
    return Caller(client, person)


def used(body: Any) -> tuple[Any, Any]:
    return body["issued_with"], body["consumed_with"]


def test_a_validate_names_both_keys(one: Program, two: Program, human: Caller) -> None:
    """Guards: ``issued_with`` in create.lua, and ``consumed_with`` in judge.lua."""
    for creator, consumer in ((one, two), (human, one), (one, human), (human, human)):
        keys = getattr(creator, "key_id", None), getattr(consumer, "key_id", None)
        token = creator.create()
        seen = human.post("introspect", token=token["token"]).get_json()
        assert seen["issued_with"] == keys[0]
        assert used(human.receipt(token["id"])) == (keys[0], None)
        for is_repeated in (False, True):
            body = consumer.post("validate", token["id"], token=token["token"]).get_json()
            assert body["replayed"] == is_repeated
            assert used(body) == keys
        assert used(human.receipt(token["id"])) == keys
        [item, *_] = human.get().get_json()["items"]
        assert used(item) == keys


def test_a_commit_names_both_keys(one: Program, two: Program, human: Caller) -> None:
    token = one.create()
    held = two.post("reserve", token=token["token"]).get_json()
    assert held["issued_with"] == one.key_id
    body = two.post("commit", reservation=held["reservation"]).get_json()
    assert used(body) == (one.key_id, two.key_id)
    assert used(human.receipt(token["id"])) == (one.key_id, two.key_id)


def test_a_batch_names_its_key(one: Program, human: Caller) -> None:
    batch = one.post("batch", count=2).get_json()["tokens"]
    assert [human.receipt(token["id"])["issued_with"] for token in batch] == [one.key_id] * 2


def test_a_reservation_is_for_the_key_that_made_it(
    one: Program, two: Program, human: Caller
) -> None:
    """Another key of the account may have other purposes. Guard: ``Party.holder``."""
    for holder, others in ((one, (two, human)), (human, (one, two))):
        token = human.create()
        reservation = holder.hold(token["token"])
        for other in others:
            for verb in ("commit", "release"):
                assert other.post(verb, reservation=reservation).status_code == 404
        assert holder.post("commit", reservation=reservation).status_code == 200


def test_a_token_of_a_person_costs_no_room_for_keys(
    app: Flask, one: Program, human: Caller
) -> None:
    """The fields are absent where there is no key."""
    store = app.extensions["TokenStore"]
    connection = store._shards._connection
    hkeys = connection.script("return redis.call('HKEYS', KEYS[1])")
    for caller, expected in ((human, set()), (one, {b"issued_with", b"consumed_with"})):
        token = caller.create()
        assert caller.post("validate", token=token["token"]).status_code == 200
        names = set(hkeys([Keys.of_token(token["id"]).record(token["id"])]))
        assert {name for name in names if name.endswith(b"_with")} == expected


def test_the_line_of_a_call_names_its_key(
    one: Program, human: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = copied(monkeypatch, json.loads)
    one.create()
    human.create()
    # One in the log, and one in the audit trail.
    assert [line.get("key_id") for line in lines] == [one.key_id] * 2 + [None] * 2
    assert [line["user_id"] for line in lines] == [human.id] * 4


def test_a_repeat_with_another_key_is_the_same_caller(
    app: Flask, make_app: Callable[..., Flask], one: Program, two: Program
) -> None:
    """Two keys side by side are the rotation: a lost response is not lost with the first."""
    made = one.create()
    first = one.post("validate", "a-key", token=made["token"]).get_json()
    again = two.post("validate", "a-key", token=made["token"]).get_json()
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert used(again) == (one.key_id, one.key_id)
    stranger = Program(one.client, enrol(one.client.post))
    assert stranger.post("validate", "a-key", token=made["token"]).status_code == 409
