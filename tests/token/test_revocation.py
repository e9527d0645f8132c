"""Revoking a token, by its id or by its secret."""

from __future__ import annotations

import pytest

from tests.stage.callers import Caller, body_of
from tests.stage.problems import problem_in, token_problem
from tests.stage.times import moment
from tokenservice.onetime.format import ID, random_base62


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
