"""Reserve, commit and release."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.stage.callers import Caller, body_of
from tests.stage.problems import problem_in, refusal_of_field
from tests.stage.times import moment
from tests.stage.tokens import HELD, RESERVATION, VALIDATED


def test_a_reservation_returns_the_terms_of_its_token(ana: Caller, berta: Caller) -> None:
    token = ana.create(purpose="pay", data={"room": 7})
    response = berta.post("reserve", token=token["token"], purpose="pay", lease_seconds=60)
    assert response.status_code == 200
    held = body_of(response)
    assert set(held) == HELD
    assert RESERVATION.fullmatch(held["reservation"])
    assert (held["id"], held["issued_by"]) == (token["id"], ana.id)
    assert (held["purpose"], held["subject"], held["data"]) == ("pay", ana.id, {"room": 7})
    left = moment(held["lease_expires_at"]).timestamp() - time.time()
    assert 30 < left <= 61

    committed = body_of(berta.post("commit", reservation=held["reservation"]))
    assert set(committed) == VALIDATED
    assert (committed["id"], committed["replayed"]) == (token["id"], False)
    assert ana.receipt(token["id"])["consumed_by"] == berta.id


@pytest.mark.parametrize("lease", [0, 61, -1, "30", 1.5, None])
def test_a_lease_has_bounds(ana: Caller, lease: Any) -> None:
    token = ana.create()["token"]
    refusal_of_field(ana.post("reserve", token=token, lease_seconds=lease), "lease_seconds")


def test_a_held_token_is_reserved_for_everyone(ana: Caller, berta: Caller) -> None:
    token = ana.create()
    held = ana.hold(token["token"], lease_seconds=20)
    responses = [
        caller.post(verb, token=token["token"])
        for caller in (ana, berta)
        for verb in ("validate", "reserve", "revoke")
    ]
    for response in (*responses, ana.delete(token["id"])):
        problem_in(response, 409, "token_reserved")
        assert 1 <= int(response.headers["Retry-After"]) <= 20
    assert ana.receipt(token["id"])["state"] == "reserved"
    assert ana.post("commit", reservation=held).status_code == 200


def test_only_its_holder_can_use_a_reservation(ana: Caller, berta: Caller) -> None:
    """Guard: the holder in the MAC of a reservation. No other caller learns that it exists."""
    held = ana.hold(ana.create()["token"])
    for verb in ("commit", "release"):
        problem_in(berta.post(verb, reservation=held), 404, "token_unknown")
    assert ana.post("commit", reservation=held).status_code == 200


def test_a_released_token_can_be_used_again(ana: Caller, berta: Caller) -> None:
    token = ana.create()["token"]
    held = ana.hold(token)
    response = ana.post("release", reservation=held)
    assert (response.status_code, response.data) == (204, b"")
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=held), 409, "lease_ended")
    assert berta.post("validate", token=token).status_code == 200


def test_a_committed_token_is_used(ana: Caller, berta: Caller) -> None:
    token = ana.create()["token"]
    held = ana.hold(token)
    consumed = body_of(ana.post("commit", reservation=held))
    for response in (
        ana.post("commit", reservation=held),
        ana.post("release", reservation=held),
        berta.post("validate", token=token),
    ):
        problem = problem_in(response, 409, "token_already_used")
        assert moment(problem["consumed_at"]) == moment(consumed["consumed_at"])


def test_a_lease_ends_by_itself(ana: Caller, berta: Caller) -> None:
    """Its holder gets ``lease_ended``, even after another caller has used the token."""
    token = ana.create()
    held = ana.hold(token["token"], lease_seconds=1)
    time.sleep(1.2)
    assert ana.receipt(token["id"])["state"] == "active"
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=held), 409, "lease_ended")
    assert berta.post("validate", token=token["token"]).status_code == 200
    for verb in ("commit", "release"):
        problem_in(ana.post(verb, reservation=held), 409, "lease_ended")
