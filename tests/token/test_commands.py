"""The ``flask tokens`` commands, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
from flask import Flask

from tests.stage.callers import Caller, body_of
from tests.stage.commands import output, refusal
from tests.stage.people import new_correo

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run ``flask tokens …``."""

    def command(*words: str) -> click.testing.Result:
        return app.test_cli_runner().invoke(args=["tokens", *words])

    return command


def lines(result: click.testing.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(result).splitlines()]


def test_a_created_token_is_shown_once_and_bound_to_its_terms(run: Run, ana: Caller) -> None:
    terms = ("--purpose", "pay", "--subject", "order 7", "--audience", ana.person.correo)
    [created] = lines(run("create", ana.person.correo, "--expires-in", "60", *terms))
    assert created["token"] not in run("show", created["id"]).output
    wrong = ana.post("validate", token=created["token"], purpose="pay", subject="order 8")
    assert wrong.status_code == 403
    right = ana.post("validate", token=created["token"], purpose="pay", subject="order 7")
    assert body_of(right)["issued_by"] == ana.person.id


def test_an_address_in_the_audience_must_have_an_account_or_be_allowed(
    run: Run, ana: Caller, berta: Caller
) -> None:
    """As over HTTP. An address with an account becomes its id."""
    unregistered, correo = new_correo(), ana.person.correo
    wrong = run("create", correo, "--audience", unregistered)
    assert "No account has this address" in refusal(wrong)
    assert output(run("list", correo)) == ""
    named = ("--audience", berta.person.correo, "--audience", unregistered)
    [created] = lines(run("create", correo, *named, "--allow-unregistered", "--expires-in", "60"))
    seen = body_of(ana.post("introspect", token=created["token"]))
    assert seen["audience"] == [berta.id, unregistered]


def test_the_tokens_of_an_account_are_listed_newest_first(run: Run, ana: Caller) -> None:
    ids = [ana.create(purpose=purpose)["id"] for purpose in ("pay", "ws.connect", "pay")]
    assert [receipt["id"] for receipt in lines(run("list", ana.person.correo))] == ids[::-1]


def test_a_list_of_several_pages_is_complete(run: Run, ana: Caller) -> None:
    made = {token["id"] for token in body_of(ana.post("batch", count=50, expires_in=60))["tokens"]}
    assert {receipt["id"] for receipt in lines(run("list", ana.person.correo))} == made


@pytest.mark.parametrize(
    ("options", "places"),
    [
        (("--state", "active"), [2, 1]),
        (("--state", "revoked"), [0]),
        (("--purpose", "pay"), [2, 0]),
        (("--purpose", "pay", "--state", "active"), [2]),
        (("--purpose", "nothing"), []),
    ],
)
def test_a_list_is_filtered_by_its_options(
    run: Run, ana: Caller, options: tuple[str, ...], places: list[int]
) -> None:
    ids = [ana.create(purpose=purpose)["id"] for purpose in ("pay", "ws.connect", "pay")]
    assert ana.delete(ids[0]).status_code == 204
    listed = lines(run("list", ana.person.correo, *options))
    assert [receipt["id"] for receipt in listed] == [ids[place] for place in places]


def test_a_token_is_shown_and_revoked_by_its_id(run: Run, ana: Caller) -> None:
    token = ana.create()
    [shown] = lines(run("show", token["id"]))
    assert (shown["state"], shown["issued_by"]) == ("active", ana.person.id)
    [revoked] = lines(run("revoke", token["id"]))
    assert revoked["state"] == "revoked"
    assert ana.post("validate", token=token["token"]).status_code == 410


def test_all_unused_tokens_of_an_account_are_revoked(run: Run, ana: Caller) -> None:
    correo = ana.person.correo
    paid, order, plain = ana.create(purpose="pay"), ana.create(subject="order 7"), ana.create()

    def states() -> list[str]:
        return [ana.receipt(token["id"])["state"] for token in (paid, order, plain)]

    assert correo in output(run("revoke-all", correo.upper(), "--purpose", "pay"))
    assert states() == ["revoked", "active", "active"]
    output(run("revoke-all", correo, "--subject", "order 7"))
    assert states() == ["revoked", "revoked", "active"]
    output(run("revoke-all", correo))
    assert states() == ["revoked"] * 3
    assert ana.post("validate", token=ana.create()["token"]).status_code == 200


def test_a_part_of_the_tokens_is_named_as_over_http(run: Run, ana: Caller) -> None:
    token, correo = ana.create(), ana.person.correo
    for options in (("--purpose", "pay", "--subject", "s"), ("--purpose", ""), ("--subject", "")):
        assert refusal(run("revoke-all", correo, *options))
    assert ana.receipt(token["id"])["state"] == "active"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("revoke-all", "nobody@example.com"), "no account has the address nobody@example.com"),
        (("show", "0" * 18), "token_unknown"),
        (("show", "no id"), "token_unknown"),
        (("revoke", "0" * 18), "token_unknown"),
        (("list", "nobody@example.com"), "no account has the address nobody@example.com"),
        (("create", "nobody@example.com"), "no account has the address nobody@example.com"),
        (("list", "nobody@example.com", "--state", "gone"), "is not one of"),
    ],
    ids=str,
)
def test_a_refusal_gives_its_reason(run: Run, words: tuple[str, ...], message: str) -> None:
    assert message in refusal(run(*words))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--expires-in", "0"),
        ("--expires-in", "86401"),
        ("--purpose", "Pay"),
        ("--audience", "nobody"),
    ],
)
def test_create_applies_the_rules_of_the_api_to_a_token(
    run: Run, ana: Caller, option: str, value: str
) -> None:
    message = refusal(run("create", ana.person.correo, option, value))
    assert option[2:].replace("-", "_") in message.replace("-", "_")
    assert output(run("list", ana.person.correo)) == ""
