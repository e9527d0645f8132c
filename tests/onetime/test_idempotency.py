"""A lost reply loses nothing: the same call with the same key gets the same result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.stage.topologies import Topology
from tokenservice.onetime import errors
from tokenservice.onetime.format import digest
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Created, Party, Presented, State, Terms

LUIS, EVA = Party("luis", "luis@example.com"), Party("eva", "eva@example.com")


def test_a_consume_is_replayed_to_its_caller(store: TokenStore) -> None:
    text = store.create("ana", life_seconds=10, terms=Terms(data='{"room":7}')).text
    first = store.validate(Presented(text), LUIS, key="k")
    again = store.validate(Presented(text), LUIS, key="k")
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.consumed_at, again.data) == (first.consumed_at, first.data)


@pytest.mark.parametrize(("caller", "key"), [(LUIS, ""), (LUIS, "another"), (EVA, "k"), (EVA, "")])
def test_another_caller_or_key_gets_no_replay(caller: Party, key: str, store: TokenStore) -> None:
    """Guards: the mark and the consumer of the record."""
    text = store.create("ana", life_seconds=10).text
    store.validate(Presented(text), LUIS, key="k")
    with pytest.raises(errors.TokenAlreadyUsed):
        store.validate(Presented(text), caller, key=key)


def test_two_callers_may_choose_the_same_key(store: TokenStore) -> None:
    """Guard: the caller in digest() that names the key."""
    first, second = (store.create("ana", life_seconds=10).text for _ in range(2))
    store.validate(Presented(first), LUIS, key="k")
    assert not store.validate(Presented(second), EVA, key="k").replayed


def test_a_key_stands_for_one_request(store: TokenStore) -> None:
    """Guard: the comparison of the request in recall()."""
    first, second = (store.create("ana", life_seconds=10).text for _ in range(2))
    store.validate(Presented(first), LUIS, key="k")
    with pytest.raises(errors.IdempotencyMismatch):
        store.validate(Presented(second), LUIS, key="k")
    with pytest.raises(errors.IdempotencyMismatch):
        store.validate(Presented(first, subject="ana"), LUIS, key="k")
    with pytest.raises(errors.IdempotencyMismatch):
        store.validate(Presented(first, issuers=("ana",)), LUIS, key="k")
    store.validate(Presented(second), LUIS, key="another")


def test_a_key_stands_for_the_issuers_that_were_asked_for(store: TokenStore) -> None:
    """A repeat may find another account under an address, and gets its response all the same."""
    first, second = (store.create("ana", life_seconds=10).text for _ in range(2))
    words = ("ana@example.com",)
    store.validate(Presented(first, issuers=("ana",), asked=words), LUIS, key="k")
    again = Presented(first, issuers=("eva",), asked=words)
    assert store.validate(again, LUIS, key="k").replayed
    held = store.reserve(
        Presented(second, issuers=("ana",), asked=words), LUIS, lease_seconds=5, key="k"
    )
    again = Presented(second, issuers=("eva",), asked=words)
    assert store.reserve(again, LUIS, lease_seconds=5, key="k").text == held.text
    for other in (("ana",), ()):
        with pytest.raises(errors.IdempotencyMismatch):
            store.reserve(Presented(second, issuers=other), LUIS, lease_seconds=5, key="k")


def test_a_key_stands_for_the_room_for_data(store: TokenStore) -> None:
    """Else a repeat could return more than its caller can pass on."""
    token = store.create("ana", life_seconds=10, terms=Terms(data='{"a":1}')).text
    store.validate(Presented(token), LUIS, key="k")
    with pytest.raises(errors.IdempotencyMismatch):
        store.validate(Presented(token, room=1), LUIS, key="k")


def test_a_refusal_is_not_remembered(store: TokenStore) -> None:
    """The key of a refused call may be used for the corrected one."""
    text = store.create("ana", life_seconds=10, terms=Terms(purpose="pay")).text
    with pytest.raises(errors.TokenMismatch):
        store.validate(Presented(text), LUIS, key="k")
    assert not store.validate(Presented(text, purpose="pay"), LUIS, key="k").replayed


def test_a_key_is_forgotten_after_its_window(
    topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """It may then stand for another request. The consume under it is replayed all the same."""
    store = open_store(topology.url, shards=topology.shards, window_seconds=1)
    first, second = (store.create("ana", life_seconds=10, key=key).text for key in ("k", "l"))
    store.validate(Presented(first), LUIS, key="brief")
    time.sleep(1.2)
    assert store.create("ana", life_seconds=10, key="k").text != first
    assert not store.validate(Presented(second), LUIS, key="brief").replayed
    assert store.validate(Presented(first), LUIS, key="brief").replayed


def test_a_create_is_replayed_with_the_same_token(store: TokenStore) -> None:
    first = store.create("ana", life_seconds=10, key="k")
    again = store.create("ana", life_seconds=10, key="k")
    assert again == replace(first, replayed=True, now=again.now)
    assert store.create("ana", life_seconds=10, key="other").id != first.id
    assert store.create("eva", life_seconds=10, key="k").id != first.id
    store.validate(Presented(again.text), LUIS)
    with pytest.raises(errors.TokenAlreadyUsed):
        store.validate(Presented(first.text), LUIS)


def test_a_batch_is_replayed_with_the_same_tokens(store: TokenStore) -> None:
    first = store.create_many("ana", 100, life_seconds=10, key="k")
    again = store.create_many("ana", 100, life_seconds=10, key="k")
    assert again == [replace(token, replayed=True, now=again[0].now) for token in first]
    assert len({token.text for token in first}) == 100
    with pytest.raises(errors.IdempotencyMismatch):
        store.create_many("ana", 99, life_seconds=10, key="k")


MEANWHILE: dict[State, Callable[[TokenStore, Created], object]] = {
    State.ACTIVE: lambda store, token: None,
    State.RESERVED: lambda store, token: store.reserve(
        Presented(token.text), LUIS, lease_seconds=5
    ),
    State.CONSUMED: lambda store, token: store.validate(Presented(token.text), LUIS),
    State.REVOKED: lambda store, token: store.revoke(token.text, Party("ana")),
    State.EXPIRED: lambda store, token: time.sleep(1),
}


@pytest.mark.parametrize("state", MEANWHILE)
def test_a_repeated_create_says_what_is_so_now(state: State, store: TokenStore) -> None:
    """Guard: shown_state() in again.lua."""
    life = 1 if state is State.EXPIRED else 10
    first = store.create("ana", life_seconds=life, key="k")
    assert (first.state, first.replayed) == (State.ACTIVE, False)
    assert first.life_left == first.expires_at - first.now == timedelta(seconds=life)
    time.sleep(0.01)
    MEANWHILE[state](store, first)
    again = store.create("ana", life_seconds=life, key="k")
    assert (again.state, again.replayed, again.text) == (state, True, first.text)
    assert again.state is store.receipt(first.id).state
    assert again.now > first.now
    is_alive = state in (State.ACTIVE, State.RESERVED)
    assert again.life_left == (again.expires_at - again.now if is_alive else timedelta(0))


def test_a_token_that_is_held_beyond_its_life_has_none_left(store: TokenStore) -> None:
    first = store.create("ana", life_seconds=1, key="k")
    store.reserve(Presented(first.text), LUIS, lease_seconds=5)
    time.sleep(1)
    again = store.create("ana", life_seconds=1, key="k")
    assert (again.state, again.life_left) == (State.RESERVED, timedelta(0))


def test_each_token_of_a_repeated_batch_has_its_own_state(store: TokenStore) -> None:
    first = store.create_many("ana", len(MEANWHILE) - 1, life_seconds=10, key="k")
    states = [state for state in MEANWHILE if state is not State.EXPIRED]
    for state, token in zip(states, first, strict=True):
        MEANWHILE[state](store, token)
    again = store.create_many("ana", len(states), life_seconds=10, key="k")
    assert [token.state for token in again] == states
    assert [token.id for token in again] == [token.id for token in first]


def test_a_create_key_stands_for_the_audience_that_was_asked_for(store: TokenStore) -> None:
    """A repeat may find another id for an address. The token keeps the one that it is bound to."""
    asked = ("luis@example.com",)
    before, after = (Terms(audience=found, asked=asked) for found in (asked, ("luis",)))
    first = store.create("ana", life_seconds=10, terms=before, key="k")
    again = store.create("ana", life_seconds=10, terms=after, key="k")
    assert (again.id, again.audience, again.replayed) == (first.id, asked, True)
    # The previous release knows no other words than the audience itself.
    as_before = store.create("ana", life_seconds=10, terms=Terms(audience=asked), key="k")
    assert as_before.id == first.id
    with pytest.raises(errors.IdempotencyMismatch):
        store.create("ana", life_seconds=10, terms=Terms(audience=("luis",)), key="k")


@pytest.mark.parametrize("change", [{"life_seconds": 11}, {"terms": Terms(purpose="pay")}])
def test_a_create_key_stands_for_one_request(change: dict[str, object], store: TokenStore) -> None:
    store.create("ana", life_seconds=10, key="k")
    with pytest.raises(errors.IdempotencyMismatch):
        store.create("ana", **{"life_seconds": 10, **change}, key="k")  # type: ignore[arg-type]


def test_a_keyed_token_is_returned_again_though_redis_never_held_it(
    topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """It is derived from the service's secret, which no other service has."""

    def create(secret: bytes) -> Created:
        store = open_store(topology.url, shards=topology.shards, secret=secret)
        return store.create("zoe", life_seconds=10, key="k")

    created = create(b"one")
    assert create(b"one").text == created.text
    with pytest.raises(errors.IdempotencyMismatch):
        create(b"two")
    client, secret = topology.client(), created.text[26:54].encode()
    for key in client.scan_iter(f"*{created.id}*"):
        assert secret not in b"".join(client.hgetall(key).values())


def test_a_reservation_is_replayed_while_it_lasts(store: TokenStore) -> None:
    text = store.create("ana", life_seconds=10).text
    first = store.reserve(Presented(text), LUIS, lease_seconds=5, key="k")
    again = store.reserve(Presented(text), LUIS, lease_seconds=5, key="k")
    assert again == replace(first, replayed=True)
    store.release(first.text, LUIS)
    with pytest.raises(errors.LeaseEnded):
        store.reserve(Presented(text), LUIS, lease_seconds=5, key="k")


def test_a_commit_is_replayed(store: TokenStore) -> None:
    text = store.create("ana", life_seconds=10).text
    held = store.reserve(Presented(text), LUIS, lease_seconds=5)
    first = store.commit(held.text, LUIS, key="k")
    again = store.commit(held.text, LUIS, key="k")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.consumed_at == first.consumed_at
    with pytest.raises(errors.TokenAlreadyUsed):
        store.commit(held.text, LUIS)


def test_a_create_key_stands_for_the_demand_of_a_subject(store: TokenStore) -> None:
    plain, demanding = (Terms(subject="order 7", require_subject=each) for each in (False, True))
    first = store.create("ana", life_seconds=10, terms=demanding, key="k")
    assert store.create("ana", life_seconds=10, terms=demanding, key="k").text == first.text
    with pytest.raises(errors.IdempotencyMismatch):
        store.create("ana", life_seconds=10, terms=plain, key="k")


def test_a_key_stands_for_the_same_request_as_in_the_release_before(
    topology: Topology, store: TokenStore
) -> None:
    """Where no new term is named: a rolling update splits a call and its repeat between both."""
    created = store.create("ana", life_seconds=10, key="k")
    held = store.create("ana", life_seconds=10, key="l")
    store.reserve(Presented(held.text), LUIS, lease_seconds=5, key="k")
    store.validate(Presented(created.text), LUIS, key="k")
    client = topology.client()
    kept = [client.get(key)[:64].decode() for key in client.scan_iter("*:idem:*")]
    assert sorted(kept) == sorted(
        [
            *[digest("1", "10", "", "", "ana", "", "")] * 2,
            digest(held.text, "", "", "", "5"),
            digest(created.text, "", "", ""),
        ]
    )
