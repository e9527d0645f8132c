"""The ``flask keys`` commands, on a real database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.commands import output, refusal
from tests.stage.doors import always_near, open_door
from tests.stage.keys import bearer, new_key
from tests.stage.people import Person, enrol, new_correo
from tests.stage.queries import execute
from tests.stage.waiting import until
from tokenservice.auth import keys

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run ``flask keys …``."""

    def command(*words: str) -> click.testing.Result:
        return app.test_cli_runner().invoke(args=["keys", *words])

    return command


def lines(result: click.testing.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(result).splitlines()]


def test_a_key_is_made_printed_once_listed_and_revoked(
    run: Run, client: FlaskClient, person: Person
) -> None:
    words = ("create", person.correo, "--name", "billing", "--scope", "token:create")
    more = ("--scope", "token:read", "--purpose", "pay", "--purpose", "ws.*")
    [made] = lines(run(*words, *more, "--cidr", "127.0.0.0/8", "--expires-in", "60"))
    assert made["scopes"] == ["token:create", "token:read"]
    assert made["purposes"] == ["pay", "ws.*"]
    assert made["cidrs"] == ["127.0.0.0/8"]
    key = bearer(made["key"])
    assert client.post("/token/create", json={"purpose": "pay"}, headers=key).status_code == 201
    listed = output(run("list", person.correo))
    assert made["key"] not in listed
    [item] = [json.loads(line) for line in listed.splitlines()]
    assert (item["id"], item["user_id"], item["revoked_at"]) == (made["id"], person.id, None)
    for _ in range(2):
        [revoked] = lines(run("revoke", made["id"]))
        assert revoked["revoked_at"]
    until(lambda: client.get("/token", headers=key).status_code == 401, seconds=3)
    [item] = lines(run("list", person.correo))
    assert item["revoked_at"]


def test_a_key_that_cannot_be_made_is_a_clear_line(
    app: Flask, run: Run, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("create", person.correo, "--name", "billing")
    assert "Missing option '--scope'" in refusal(run(*words))
    assert "'token:all'" in refusal(run(*words, "--scope", "token:all"))
    scoped = (*words, "--scope", "token:read")
    assert "Not a network" in refusal(run(*scoped, "--cidr", "here"))
    assert "Takes a purpose" in refusal(run(*scoped, "--purpose", "A"))
    assert "no account" in refusal(run("create", new_correo(), *scoped[2:]))
    assert "no key has the id" in refusal(run("revoke", "0" * 18))
    monkeypatch.setattr(keys, "MOST", 0)
    assert "100 keys" in refusal(run(*scoped))
    disabled = app.test_cli_runner().invoke(args=["users", "disable", person.correo])
    assert disabled.exit_code == 0
    assert "is disabled" in refusal(run(*scoped))


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
def test_limits_in_place_of_those_of_the_account(
    make_app: Callable[..., Flask], is_direct: bool
) -> None:
    """Guard: ``own_quota`` in ``plans.count``. They may be higher, and the account counts none."""
    own = make_app(rate_limit_create="90 per hour", rate_limit_validate="50 per hour")
    http = own.test_client()
    person = enrol(http.post)
    made = new_key(http.post, person)
    key = bearer(made["key"])

    def run(*words: str) -> dict[str, Any]:
        [shown] = lines(own.test_cli_runner().invoke(args=["keys", *words]))
        return shown

    def counted(path: str, headers: dict[str, str]) -> tuple[str, int]:
        """The limit that counts a call, and the calls that it has left."""
        told = http.post(path, json={}, headers=headers).headers["RateLimit"]
        name, left = re.findall(r'"(.+)";r=(\d+)', told)[0]
        return name, int(left)

    with always_near():
        if is_direct:
            open_door(own)
        assert counted("/token/create", key)[0] == "create"
        shown = run("limit", made["id"], "--create", "95 per hour")
        assert (shown["limits"], shown["own_quota"]) == ({"create": "95 per hour"}, True)
        until(lambda: counted("/token/create", key) == ("key-create", 94), seconds=5)
        before = counted("/token/create", person.headers)
        for left in range(93, -1, -1):
            assert counted("/token/create", key) == ("key-create", left)
        assert http.post("/token/create", headers=key).status_code == 429
        assert counted("/token/create", person.headers) == ("create", before[1] - 1)
        assert counted("/token/consume", key)[0] == "validate"
        shown = run("limit", made["id"])
        assert (shown["limits"], shown["own_quota"]) == ({}, False)
        until(lambda: counted("/token/create", key)[0] == "create", seconds=5)


@pytest.mark.parametrize("words", ["off", "0 per hour", "many"])
def test_a_limit_that_is_none_is_refused(words: str, run: Run, person: Person) -> None:
    assert "Takes a rate" in refusal(run("limit", "0" * 18, "--create", words))
    assert "no key has the id" in refusal(run("limit", "0" * 18, "--create", "1 per hour"))


def test_a_purge_deletes_keys_that_ended_long_ago(
    app: Flask, run: Run, client: FlaskClient, person: Person
) -> None:
    """By revocation or by its end, whichever was first."""
    made = {name: new_key(client.post, person) for name in ("usable", "ended", "old", "expired")}
    for name in ("ended", "old"):
        run("revoke", made[name]["id"])
    back = "UPDATE service_keys SET {} = now() - interval '91 days', {} = now() WHERE id = :id"
    execute(app, back.format("revoked_at", "last_used_on"), id=made["old"]["id"])
    execute(app, back.format("expires_at", "revoked_at"), id=made["expired"]["id"])
    assert output(run("purge")) == "2 keys deleted.\n"
    left = {item["id"] for item in lines(run("list", person.correo))}
    assert left == {made["usable"]["id"], made["ended"]["id"]}
    assert output(run("purge")) == "0 keys deleted.\n"
    assert client.get("/token", headers=bearer(made["usable"]["key"])).status_code == 200
