"""Introspection, receipts and lists."""

from __future__ import annotations

import time

import pytest

from tests.stage.callers import Caller, body_of
from tests.stage.problems import refusal_of_field, token_problem
from tests.stage.tokens import ACTION, INACTIVE, RECEIPT
from tokenservice.onetime.format import ID, random_base62


def test_introspect_does_not_consume(ana: Caller, berta: Caller) -> None:
    token = ana.create(
        purpose="pay", subject="order 7", audience=[berta.id], bind=ACTION, data={"room": 7}
    )
    for caller in (ana, berta, ana):
        response = caller.post("introspect", token=token["token"])
        assert response.status_code == 200
        seen = body_of(response)
        assert 0 < seen.pop("expires_in") <= 60
        assert seen == {
            "active": True,
            "id": token["id"],
            "state": "active",
            "expires_at": token["expires_at"],
            "created_at": token["server_time"],
            "purpose": "pay",
            "audience": [berta.id],
            "subject": "order 7",
            "issued_by": ana.id,
            "issued_with": None,
            "bound": True,
        }
    response = berta.post("validate", token=token["token"], purpose="pay", bind=ACTION)
    assert response.status_code == 200


def test_a_held_token_is_still_active(ana: Caller) -> None:
    token = ana.create()["token"]
    ana.hold(token)
    seen = body_of(ana.post("introspect", token=token))
    assert (seen["active"], seen["state"], seen["bound"]) == (True, "reserved", False)


def test_an_inactive_token_reveals_nothing_more(ana: Caller, berta: Caller) -> None:
    """RFC 7662 section 2.2. A used, a revoked and a foreign token get the same response."""
    used, revoked, foreign = (
        ana.create()["token"],
        ana.create()["token"],
        ana.create(audience=[ana.id])["token"],
    )
    ana.post("validate", token=used)
    ana.post("revoke", token=revoked)
    for token in (used, revoked, foreign):
        response = berta.post("introspect", token=token)
        assert (response.status_code, response.data) == (200, INACTIVE)


def test_a_receipt_follows_a_token_through_its_life(ana: Caller, berta: Caller) -> None:
    token = ana.create(purpose="pay", subject="order 7")
    receipt = ana.receipt(token["id"])
    assert receipt == {
        "id": token["id"],
        "state": "active",
        "purpose": "pay",
        "subject": "order 7",
        "created_at": token["server_time"],
        "expires_at": token["expires_at"],
        "consumed_at": None,
        "consumed_by": None,
        "replays": 0,
        "issued_with": None,
        "consumed_with": None,
    }
    held = berta.hold(token["token"], purpose="pay")
    assert ana.receipt(token["id"]) == {**receipt, "state": "reserved"}
    berta.post("release", reservation=held)
    assert ana.receipt(token["id"]) == receipt
    consumed = body_of(berta.post("validate", token=token["token"], purpose="pay"))
    berta.post("validate", token=token["token"], purpose="pay")
    assert ana.receipt(token["id"]) == {
        **receipt,
        "state": "consumed",
        "consumed_at": consumed["consumed_at"],
        "consumed_by": berta.id,
        "replays": 1,
    }
    revoked = ana.create()
    ana.delete(revoked["id"])
    assert ana.receipt(revoked["id"])["state"] == "revoked"


def test_a_receipt_is_for_the_creator_and_the_audience(ana: Caller, berta: Caller) -> None:
    """For any other caller the token is unknown."""
    open_to_all, for_berta = ana.create(), ana.create(audience=[berta.person.correo])
    assert ana.receipt(for_berta["id"]) == berta.receipt(for_berta["id"])
    unknown = token_problem(berta.get("/" + random_base62(ID)))
    assert token_problem(berta.get(f"/{open_to_all['id']}")) == unknown


def test_a_list_holds_the_callers_own_tokens_newest_first(ana: Caller, berta: Caller) -> None:
    ids = [ana.create()["id"] for _ in range(3)]
    berta.create(audience=[ana.id])
    response = ana.get()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    page = body_of(response)
    assert set(page) == {"items", "next_cursor"}
    assert [item["id"] for item in page["items"]] == ids[::-1]
    assert all(set(item) == RECEIPT for item in page["items"])
    assert page["next_cursor"] is None


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 20])
def test_pages_hold_every_token_once(ana: Caller, limit: int) -> None:
    """Also the tokens of one batch, which are created in the same moment."""
    tokens = body_of(ana.post("batch", count=5, expires_in=60))["tokens"]
    tokens += [ana.create() for _ in range(2)]
    seen, query = [], {"limit": limit}
    for _ in range(len(tokens) + 1):
        page = body_of(ana.get(**query))
        assert len(page["items"]) <= limit
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert page["next_cursor"] is None
    assert len(seen) == len(tokens)
    assert set(seen) == {token["id"] for token in tokens}


def test_a_list_is_filtered_by_state_and_purpose(ana: Caller) -> None:
    tokens = {
        state: ana.create(purpose="pay") for state in ("active", "reserved", "consumed", "revoked")
    }
    tokens["expired"] = ana.create(purpose="pay", expires_in=1)
    ana.create(purpose="read")
    ana.hold(tokens["reserved"]["token"], purpose="pay")
    ana.post("validate", token=tokens["consumed"]["token"], purpose="pay")
    ana.delete(tokens["revoked"]["id"])
    time.sleep(1.2)
    for state, token in tokens.items():
        items = body_of(ana.get(state=state, purpose="pay"))["items"]
        assert [(item["id"], item["state"]) for item in items] == [(token["id"], state)]
    assert len(body_of(ana.get(purpose="pay"))["items"]) == 5
    assert len(body_of(ana.get(purpose="read"))["items"]) == 1
    assert len(body_of(ana.get(state="active"))["items"]) == 2
    assert body_of(ana.get(purpose="nothing"))["items"] == []
    # A form sends empty fields, too.
    assert len(body_of(ana.get(state="", purpose="pay", cursor="", limit=""))["items"]) == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "used"),
        ("purpose", "A"),
        ("cursor", "x"),
        ("cursor", "-1"),
        ("cursor", "7" * 21),
        ("cursor", "inf"),
        ("limit", "0"),
        ("limit", "21"),
        ("limit", "many"),
    ],
)
def test_a_list_refuses_unknown_values(ana: Caller, field: str, value: str) -> None:
    refusal_of_field(ana.get(**{field: value}), field)
