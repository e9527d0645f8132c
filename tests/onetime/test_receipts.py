"""Receipts, introspection, lists, revocation and the cap."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.stage.tokens import altered
from tests.stage.topologies import Topology
from tokenservice.onetime import errors
from tokenservice.onetime.format import owner_handle, random_base62
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Named, Party, Presented, State, Terms

ANA, LUIS, EVA = (Party(name, f"{name}@example.com") for name in ("ana", "luis", "eva"))


@pytest.fixture
def owner() -> str:
    """An owner without tokens of another test."""
    return f"owner {time.monotonic_ns()}"


def test_a_receipt_shows_the_state_of_its_token(store: TokenStore) -> None:
    token = store.create("ana", life_seconds=30, terms=Terms(purpose="pay"))
    assert store.receipt(token.id, ANA).state is State.ACTIVE
    held = store.reserve(Presented(token.text, "pay"), LUIS, lease_seconds=30)
    assert store.receipt(token.id, ANA).state is State.RESERVED
    consumed = store.commit(held.text, LUIS)
    for _ in range(3):
        with pytest.raises(errors.TokenAlreadyUsed):
            store.validate(Presented(token.text, "pay"), EVA)

    receipt = store.receipt(token.id, ANA)

    assert receipt.state is State.CONSUMED
    assert (receipt.consumed_at, receipt.consumed_by) == (consumed.consumed_at, "luis")
    assert (receipt.purpose, receipt.replays) == ("pay", 3)


def test_an_expired_token_has_a_receipt(store: TokenStore) -> None:
    token = store.create("ana", life_seconds=1)
    time.sleep(1.2)
    assert store.receipt(token.id, ANA).state is State.EXPIRED


def test_a_receipt_is_for_owner_and_audience(store: TokenStore) -> None:
    open_to_all = store.create("ana", life_seconds=30)
    for_luis = store.create("ana", life_seconds=30, terms=Terms(audience=("luis@example.com",)))
    store.receipt(open_to_all.id, ANA)
    store.receipt(for_luis.id, LUIS)
    store.receipt(for_luis.id)  # an operator
    for token, stranger in ((open_to_all, LUIS), (for_luis, EVA), (for_luis, Party("", ""))):
        with pytest.raises(errors.TokenUnknown):
            store.receipt(token.id, stranger)


@pytest.mark.parametrize("name", ["", "*", "index:ana", "0" * 17, "00}:x" + "0" * 13, "é" * 18])
def test_a_malformed_id_never_becomes_part_of_a_key(name: str, store: TokenStore) -> None:
    """Guard: checked_id()."""
    with pytest.raises(errors.TokenUnknown):
        store.receipt(name, ANA)
    with pytest.raises(errors.TokenUnknown):
        store.revoke_id(name, ANA)


def test_introspection_consumes_nothing_and_is_for_the_entitled_alone(store: TokenStore) -> None:
    terms = Terms("pay", ("luis",), "order 7", '{"a":1}', "c" * 64)
    token = store.create("ana", life_seconds=30, terms=terms)
    for entitled in (ANA, LUIS):
        seen = store.introspect(token.text, entitled)
        assert seen is not None
        assert (seen.receipt.purpose, seen.receipt.subject, seen.is_bound) == (
            "pay",
            "order 7",
            True,
        )
        assert 25 < seen.expires_in <= 30
    assert store.introspect(token.text, EVA) is None
    assert store.introspect("ott_no", LUIS) is None
    wrong = altered(token.text, secret=random_base62(28))
    assert store.introspect(wrong, LUIS) is None
    store.validate(Presented(token.text, "pay", bind="c" * 64), LUIS)
    assert store.introspect(token.text, LUIS) is None


def test_a_revoked_token_cannot_be_used(store: TokenStore) -> None:
    terms = Terms(purpose="pay")
    by_id, by_text = (store.create("ana", life_seconds=30, terms=terms) for _ in range(2))
    for _ in range(2):
        for token, named in (
            (by_id, store.revoke_id(by_id.id, ANA)),
            (by_text, store.revoke(by_text.text, LUIS)),
        ):
            assert named == Named(id=token.id, owner="ana", purpose="pay")
    for token in (by_id, by_text):
        with pytest.raises(errors.TokenRevoked):
            store.validate(Presented(token.text), LUIS)
        assert store.receipt(token.id, ANA).state is State.REVOKED


def test_only_owner_and_audience_revoke(store: TokenStore) -> None:
    token = store.create("ana", life_seconds=30, terms=Terms(audience=("luis",)))
    with pytest.raises(errors.TokenUnknown):
        store.revoke_id(token.id, LUIS)
    with pytest.raises(errors.TokenNotForCaller):
        store.revoke(token.text, EVA)
    store.revoke(token.text, ANA)


def test_a_consumed_or_reserved_token_cannot_be_revoked(store: TokenStore) -> None:
    token = store.create("ana", life_seconds=30)
    held = store.reserve(Presented(token.text), LUIS, lease_seconds=30)
    with pytest.raises(errors.TokenReserved):
        store.revoke_id(token.id, ANA)
    store.commit(held.text, LUIS)
    with pytest.raises(errors.TokenAlreadyUsed):
        store.revoke_id(token.id, ANA)


def test_a_list_is_newest_first_and_pages_by_cursor(store: TokenStore, owner: str) -> None:
    one_by_one = [store.create(owner, life_seconds=30).id for _ in range(7)]
    together = [token.id for token in store.create_many(owner, 30, life_seconds=30)]
    expected = [*reversed(together), *reversed(one_by_one)]

    found, cursor = [], ""
    while True:
        page = store.list_for(owner, cursor=cursor, limit=5)
        found += [receipt.id for receipt in page.items]
        # Tokens created meanwhile belong before the first page and disturb none.
        store.create(owner, life_seconds=30)
        cursor = page.next_cursor
        if not cursor:
            break

    assert found == expected


def test_a_list_filters_by_state_and_purpose(store: TokenStore, owner: str) -> None:
    used = store.create(owner, life_seconds=30, terms=Terms(purpose="pay"))
    kept = store.create(owner, life_seconds=30, terms=Terms(purpose="read"))
    store.validate(Presented(used.text, "pay"), LUIS)
    assert [item.id for item in store.list_for(owner, state="consumed").items] == [used.id]
    assert [item.id for item in store.list_for(owner, purpose="read").items] == [kept.id]
    assert store.list_for(owner, state="active", purpose="pay").items == ()
    assert store.list_for("nobody").items == ()


@pytest.mark.parametrize("batch", [1, 100])
def test_an_index_cleans_itself(
    batch: int, topology: Topology, open_store: Callable[..., TokenStore], owner: str
) -> None:
    """Guard: the sample at the end of create.lua, and sweep.lua; without it 300 ids would stay."""
    store = open_store(topology.url, shards=topology.shards, receipt_seconds=1, window_seconds=1)
    client = topology.client()
    keys = Keys.of_owner(owner, topology.shards)
    store.create(owner, life_seconds=60)  # Keeps the index itself alive.
    for _ in range(3):
        store.create_many(owner, 100, life_seconds=1)
    time.sleep(2.3)
    assert client.zcard(keys.index) == 301
    # Longer than a busy machine takes for the rest.
    later = open_store(topology.url, shards=topology.shards, receipt_seconds=60, window_seconds=1)
    for _ in range(300 // batch):
        for created in later.create_many(owner, batch, life_seconds=60):
            later.validate(Presented(created.text), LUIS)
    # Few dead ids are left, and no live one was swept.
    ids = [token_id.decode() for token_id in client.zrange(keys.index, 0, -1)]
    dead = [token_id for token_id in ids if not client.exists(keys.record(token_id))]
    assert len(dead) < 200
    assert len(ids) - len(dead) == 301


def test_an_index_goes_with_its_last_record(
    topology: Topology, open_store: Callable[..., TokenStore], owner: str
) -> None:
    store = open_store(topology.url, shards=topology.shards, receipt_seconds=1, window_seconds=1)
    store.create(owner, life_seconds=1)
    store.create(owner, life_seconds=1)
    time.sleep(2.5)
    assert not list(topology.client().scan_iter(f"*{owner_handle(owner)}*"))


def test_the_cap_holds_and_an_ended_token_frees_a_place(
    topology: Topology, open_store: Callable[..., TokenStore], owner: str
) -> None:
    """Guard: the count in create.lua."""
    store = open_store(topology.url, shards=topology.shards, max_active=5)
    tokens = store.create_many(owner, 5, life_seconds=30)
    with pytest.raises(errors.TooManyActive) as refusal:
        store.create(owner, life_seconds=30)
    assert 25 < refusal.value.seconds <= 30
    store.create("someone else", life_seconds=30)

    store.validate(Presented(tokens[0].text), LUIS)
    store.revoke_id(tokens[1].id, Party(owner))
    store.create_many(owner, 2, life_seconds=2)
    with pytest.raises(errors.TooManyActive):
        store.create(owner, life_seconds=30)
    time.sleep(2.1)
    with pytest.raises(errors.TooManyActive):  # all or none
        store.create_many(owner, 3, life_seconds=30)
    store.create_many(owner, 2, life_seconds=30)
