"""The census: how many tokens are outstanding and reserved, as the cap counts them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from tests.stage.topologies import Topology
from tokenservice.onetime import census
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

LUIS = Party("luis", "luis@example.com")


def counted(store: TokenStore) -> tuple[int, int]:
    """The outstanding and the reserved tokens of all shards."""
    counts = store.census()
    return sum(count.outstanding for count in counts), sum(count.reserved for count in counts)


def make(store: TokenStore, owner: str = "ana", life: int = 60) -> str:
    return store.create(owner, life_seconds=life).text


def test_it_follows_a_token_to_its_end(store: TokenStore) -> None:
    """The model compares it in long histories; here each verb says what it does to the counts."""
    assert counted(store) == (0, 0)
    texts = [make(store, owner) for owner in ("ana", "ana", "eva", "eva")]
    assert counted(store) == (4, 0)
    first, second = (
        store.reserve(Presented(text), LUIS, lease_seconds=60).text for text in texts[:2]
    )
    assert counted(store) == (4, 2)
    store.release(first, LUIS)
    assert counted(store) == (4, 1)
    store.commit(second, LUIS)
    assert counted(store) == (3, 0)
    store.validate(Presented(texts[0]), LUIS)
    store.revoke_all("eva")
    assert counted(store) == (0, 0)


def test_what_ends_unseen_is_no_longer_counted(store: TokenStore) -> None:
    for _ in range(5):
        began = time.monotonic()
        make(store, life=1)
        store.reserve(Presented(make(store, life=1)), LUIS, lease_seconds=1)
        found = counted(store)
        took = time.monotonic() - began
        time.sleep(1.1)
        assert counted(store) == (0, 0)
        if took < 0.9:  # Else some may have ended before they were counted.
            break
    assert found == (2, 1)


def test_tokens_of_another_term_are_not_counted(store: TokenStore, topology: Topology) -> None:
    """Guards: the marks in census.lua and outstanding.lua. As after a restart with a snapshot."""
    store.reserve(Presented(make(store)), LUIS, lease_seconds=60)
    keys, client = Keys.of_owner("ana", topology.shards), topology.client()
    for name in (keys.live, keys.held):
        [mark] = client.zrangebyscore(name, "+inf", "+inf")
        client.zrem(name, mark)
        client.zadd(name, {"another term ": math.inf})
    assert counted(store) == (0, 0)


def test_more_owners_than_it_asks_are_estimated(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the share of the owners drawn by lot. A look costs the same, whatever their number."""
    for owner in range(300):
        make(store, f"owner {owner}")
    monkeypatch.setattr(census, "MOST_OWNERS", 10)
    assert 150 < counted(store)[0] < 600


def test_an_owner_without_tokens_is_forgotten(store: TokenStore, topology: Topology) -> None:
    """Guard: ZREM in outstanding.lua. Else each owner of a shard would cost every look a call."""
    make(store)
    store.revoke_all("ana")
    owners = Keys.of_owner("ana", topology.shards).owners
    assert topology.client().zcard(owners) == 1
    assert counted(store) == (0, 0)
    assert topology.client().zcard(owners) == 0
    make(store)
    assert counted(store) == (1, 0)


def test_live_sets_of_the_release_before_are_found(store: TokenStore, topology: Topology) -> None:
    """Guard: ``sweeps`` in create.lua. A busy live set never begins anew."""
    make(store)
    topology.client().delete(Keys.of_owner("ana", topology.shards).owners)
    for _ in range(32):
        make(store)
    assert counted(store) == (33, 0)


def test_a_mastership_has_a_number_of_its_own(store: TokenStore, topology: Topology) -> None:
    numbers = {count.shard: count.mastership for count in store.census()}
    assert len(numbers) == topology.shards
    assert numbers == {count.shard: count.mastership for count in store.census()}


def test_too_many_shards_are_not_counted(
    topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    assert open_store(topology.url, shards=census.MOST_SHARDS + 1).census() == []
