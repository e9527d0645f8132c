"""Reserve, commit, release: a token held for one party while the real action runs."""

from __future__ import annotations

import time

import pytest

from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

LUIS, EVA = Party("luis", "luis@example.com"), Party("eva", "eva@example.com")


def hold(store: TokenStore, life: int = 30, lease: int = 30) -> tuple[str, str]:
    text = store.create("ana", life_seconds=life).text
    return text, store.reserve(Presented(text), LUIS, lease_seconds=lease).text


def test_a_held_token_is_for_its_holder_alone(store: TokenStore) -> None:
    """Guard: the holder in the MAC of a reservation."""
    text, held = hold(store)
    for attempt in (
        lambda: store.validate(Presented(text), EVA),
        lambda: store.validate(Presented(text), LUIS),
        lambda: store.reserve(Presented(text), EVA, lease_seconds=5),
    ):
        with pytest.raises(errors.TokenReserved) as refusal:
            attempt()
        assert 0 < refusal.value.seconds <= 30
    for verb in (store.commit, store.release):
        with pytest.raises(errors.TokenUnknown):
            verb(held, EVA)
    assert store.commit(held, LUIS).owner == "ana"


def test_a_commit_consumes_once(store: TokenStore) -> None:
    text, held = hold(store)
    consumed = store.commit(held, LUIS)
    for attempt in (
        lambda: store.commit(held, LUIS),
        lambda: store.release(held, LUIS),
        lambda: store.validate(Presented(text), LUIS),
    ):
        with pytest.raises(errors.TokenAlreadyUsed) as refusal:
            attempt()
        assert refusal.value.consumed_at == consumed.consumed_at


def test_a_released_token_can_be_used_and_its_reservation_not(store: TokenStore) -> None:
    text, held = hold(store)
    store.release(held, LUIS)
    for verb in (store.commit, store.release):
        with pytest.raises(errors.LeaseEnded):
            verb(held, LUIS)
    store.validate(Presented(text), EVA)


def test_a_lease_that_ends_gives_the_token_back(store: TokenStore) -> None:
    """Guard: the lease in state_of()."""
    text, held = hold(store, lease=1)
    time.sleep(1.2)
    with pytest.raises(errors.LeaseEnded):
        store.commit(held, LUIS)
    later = store.reserve(Presented(text), EVA, lease_seconds=30)
    with pytest.raises(errors.LeaseEnded):  # Guard: the nonce, which is another one now.
        store.commit(held, LUIS)
    store.commit(later.text, EVA)


def test_a_lease_may_outlast_the_life_of_its_token(store: TokenStore) -> None:
    text, held = hold(store, life=1, lease=30)
    time.sleep(1.2)
    with pytest.raises(errors.TokenReserved):
        store.validate(Presented(text), EVA)
    store.commit(held, LUIS)


def test_a_lease_that_ends_after_the_life_gives_nothing_back(store: TokenStore) -> None:
    text, held = hold(store, life=1, lease=2)
    time.sleep(2.2)
    with pytest.raises(errors.LeaseEnded):
        store.commit(held, LUIS)
    with pytest.raises(errors.TokenExpired):
        store.validate(Presented(text), EVA)


def test_a_token_is_no_reservation_and_a_reservation_no_token(store: TokenStore) -> None:
    text, held = hold(store)
    with pytest.raises(errors.TokenMalformed):
        store.commit(text, LUIS)
    with pytest.raises(errors.TokenMalformed):
        store.validate(Presented(held), LUIS)


def test_a_forged_reservation_sends_nothing_to_redis(store: TokenStore) -> None:
    _, held = hold(store)
    with pytest.raises(errors.TokenMalformed):
        store.commit(held[:-1] + ("a" if held[-1] != "a" else "b"), LUIS)


def test_a_token_that_is_held_beyond_its_life_survives_a_sweep(store: TokenStore) -> None:
    """Each create sweeps what has expired out of the owner's live tokens."""
    text = store.create("ana", life_seconds=1).text
    held = store.reserve(Presented(text), LUIS, lease_seconds=30)
    time.sleep(1.2)
    store.create("ana", life_seconds=30)
    assert store.commit(held.text, LUIS).owner == "ana"
