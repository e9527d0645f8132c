"""The ``flask keys`` commands, on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.commands import output, refusal
from tests.stage.keys import bearer
from tests.stage.people import Person, new_correo
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
