"""Paths and queries of requests, from which no secret is read."""

from __future__ import annotations

import pytest

from tests.stage.callers import Caller
from tests.stage.problems import problem_in
from tokenservice.onetime.format import Token


def test_no_route_reads_a_secret_from_its_path_or_query(ana: Caller) -> None:
    token = ana.create()["token"]
    problem_in(ana.get("/validate", token=token), 405, "method_not_allowed")
    for path in (f"/{token}", f"/{Token.parse(token).secret}", f"/validate/{token}", "/x"):
        problem_in(ana.get(path), 404, "not_found")
        problem_in(ana.delete(path[1:]), 404, "not_found")
    assert ana.post("validate", token=token).status_code == 200


@pytest.mark.parametrize("path", ["/token/create", "/token/batch", "/token/validate"])
def test_a_body_is_read_and_a_query_is_not(ana: Caller, path: str) -> None:
    token = ana.create()["token"]
    response = ana.client.post(
        path, query_string={"token": token, "count": 1}, headers=ana.headers()
    )
    assert response.status_code == (201 if path == "/token/create" else 422)
    assert ana.post("validate", token=token).status_code == 200
