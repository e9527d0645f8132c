"""Revoking a token, by its id or by its secret."""

from __future__ import annotations

import pytest

from tests.stage.callers import Caller, body_of
from tests.stage.problems import assert_out, problem_in, refusal_of_field, token_problem
from tests.stage.times import moment
from tokenservice.onetime.format import ID, random_base62
from tokenservice.onetime.store import MOST_CUTS, TokenStore


def store_of(caller: Caller) -> TokenStore:
    store: TokenStore = caller.client.application.extensions[TokenStore.__name__]
    return store


@pytest.mark.parametrize("by", ["id", "token"])
def test_a_token_is_revoked_for_good(ana: Caller, by: str) -> None:
    token = ana.create()
    for _ in range(2):
        response = (
            ana.delete(token["id"]) if by == "id" else ana.post("revoke", token=token["token"])
        )
        assert (response.status_code, response.data) == (204, b"")
    for verb in ("validate", "reserve"):
        problem_in(ana.post(verb, token=token["token"]), 410, "token_revoked")


def test_a_used_token_cannot_be_revoked(ana: Caller) -> None:
    token = ana.create()
    consumed = body_of(ana.post("validate", token=token["token"]))
    for response in (ana.delete(token["id"]), ana.post("revoke", token=token["token"])):
        problem = problem_in(response, 409, "token_already_used")
        assert moment(problem["consumed_at"]) == moment(consumed["consumed_at"])


def test_by_its_id_only_the_creator_revokes_a_token(ana: Caller, berta: Caller) -> None:
    """Guard: the owner in revoke.lua. An id is public, and so proves nothing."""
    token = ana.create(audience=[berta.id])
    unknown = token_problem(berta.delete(random_base62(ID)))
    assert token_problem(berta.delete(token["id"])) == unknown
    assert berta.post("validate", token=token["token"]).status_code == 200


def test_with_the_secret_the_creator_and_the_audience_revoke_a_token(
    ana: Caller, berta: Caller
) -> None:
    token = ana.create(audience=[ana.id])["token"]
    problem_in(berta.post("revoke", token=token), 403, "token_not_for_caller")
    assert ana.post("validate", token=token).status_code == 200
    for caller in (ana, berta):
        token = ana.create(audience=[berta.id])["token"]
        assert caller.post("revoke", token=token).status_code == 204


def test_all_unused_tokens_of_the_caller_are_revoked(ana: Caller, berta: Caller) -> None:
    """Those of others are not, nor any that is created later."""
    unused, held, consumed, foreign = ana.create(), ana.create(), ana.create(), berta.create()
    reservation = berta.hold(held["token"])
    assert berta.post("validate", "k", token=consumed["token"]).status_code == 200
    for _ in range(2):
        response = ana.post("revoke-all")
        assert (response.status_code, response.data) == (204, b"")
    for response in (
        berta.post("validate", token=unused["token"]),
        berta.post("reserve", token=unused["token"]),
        berta.post("validate", token=held["token"]),
        berta.post("commit", reservation=reservation),
        berta.post("release", reservation=reservation),
    ):
        problem_in(response, 410, "token_revoked")
    assert body_of(berta.post("validate", "k", token=consumed["token"]))["replayed"]
    assert body_of(berta.post("introspect", token=unused["token"])) == {"active": False}
    states = {item["id"]: item["state"] for item in body_of(ana.get())["items"]}
    assert [states[token["id"]] for token in (unused, held, consumed)] == [
        *("revoked", "revoked", "consumed")
    ]
    for token in (foreign, ana.create()):
        assert ana.post("validate", token=token["token"]).status_code == 200


@pytest.mark.parametrize("part", [{"purpose": "pay"}, {"subject": "order 7"}], ids=str)
def test_a_part_of_the_tokens_is_revoked(ana: Caller, part: dict[str, str]) -> None:
    with_it, without = ana.create(**part), ana.create()
    assert ana.post("revoke-all", **part).status_code == 204
    assert ana.receipt(with_it["id"])["state"] == "revoked"
    assert ana.post("validate", token=without["token"]).status_code == 200


def test_a_part_is_a_purpose_or_a_subject(ana: Caller) -> None:
    token = ana.create()
    refusal_of_field(ana.post("revoke-all", purpose="pay", subject="order 7"), "subject")
    refusal_of_field(ana.post("revoke-all", purpose=""), "purpose")
    refusal_of_field(ana.post("revoke-all", subject=""), "subject")
    refusal_of_field(ana.post("revoke-all", all=True), "all")
    assert ana.receipt(token["id"])["state"] == "active"


def test_too_many_parts_are_refused_and_all_is_not(ana: Caller) -> None:
    token = ana.create()
    for number in range(MOST_CUTS):
        store_of(ana).revoke_all(ana.id, subject=str(number))
    refused = ana.post("revoke-all", purpose="pay")
    problem_in(refused, 429, "too_many_cuts")
    assert 0 < int(refused.headers["Retry-After"]) <= 60 + 300
    assert ana.post("revoke-all").status_code == 204
    problem_in(ana.post("validate", token=token["token"]), 410, "token_revoked")


def test_a_worker_that_remembers_a_disabled_account_creates_nothing_for_it(
    ana: Caller, berta: Caller
) -> None:
    """Guard: of OwnerDisabled in token/problems.py, a 401 as of an account that it knows."""
    foreign = berta.create()
    store_of(ana).revoke_all(ana.id, disable=True)
    for response in (ana.post("create"), ana.post("create", "k"), ana.post("batch", count=2)):
        assert_out(response, "access_token_invalid")
    # The tokens of others are a matter of the account, and so of Postgres.
    assert ana.post("validate", token=foreign["token"]).status_code == 200
    store_of(ana).enable(ana.id)
    assert ana.post("create").status_code == 201
