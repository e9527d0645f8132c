"""Earlier data, restored into the very process that issued a token.

The term is the same, and so detects nothing. A record that is restored alone is not among its
owner's live tokens; data that are restored as a whole count fewer changes than the store has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

import dev
from tests.stage.versions import DEBUG
from tokenservice.onetime import errors
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented, State

LUIS, EVA = Party("luis", "luis@example.com"), Party("eva", "eva@example.com")
ANA = Keys.of_owner("ana", 1)

#: Saves the data of Redis, and returns a function that restores them.
Keep = Callable[[redis.Redis, dev.Redis], Callable[[], object]]


def dumps(client: redis.Redis, *names: str) -> dict[bytes, bytes]:
    return {key: client.dump(key) for name in names for key in client.scan_iter(name)}


def restore(client: redis.Redis, kept: dict[bytes, bytes]) -> None:
    for key, value in kept.items():
        client.restore(key, 600_000, value, replace=True)


def one_record(client: redis.Redis, _: dev.Redis) -> Callable[[], object]:
    kept = dumps(client, f"ott:{{{ANA.tag}}}:{ANA.tag}{ANA.handle}*")
    return lambda: restore(client, kept)


def everything(client: redis.Redis, _: dev.Redis) -> Callable[[], object]:
    kept = dumps(client, "*")
    return lambda: restore(client, kept)


def after_a_flush(client: redis.Redis, _: dev.Redis) -> Callable[[], object]:
    kept = dumps(client, "*")
    return lambda: (client.flushall(), restore(client, kept))


def another_database(client: redis.Redis, server: dev.Redis) -> Callable[[], object]:
    with redis.Redis.from_url(server.url.removesuffix("/0") + "/1") as other:
        restore(other, dumps(client, "*"))
    return lambda: client.swapdb(0, 1)


def a_snapshot(client: redis.Redis, _: dev.Redis) -> Callable[[], object]:
    client.save()
    return lambda: client.execute_command("DEBUG", "RELOAD", "NOSAVE")


def a_log(client: redis.Redis, _: dev.Redis) -> Callable[[], object]:
    client.config_set("appendonly", "yes")
    while client.info("persistence")["aof_rewrite_in_progress"]:
        pass
    client.config_set("appendonly", "no")
    return lambda: client.execute_command("DEBUG", "LOADAOF")


def a_migration_undone(client: redis.Redis, server: dev.Redis) -> Callable[[], object]:
    kept = dev.Redis(server.directory / "other", None, None, server.password)
    kept.start()
    there = redis.Redis.from_url(kept.url)

    def carry(source: redis.Redis, port: int, *how: str) -> None:
        keys = list(source.scan_iter("*"))
        login = ("AUTH", server.password)
        source.execute_command(
            "MIGRATE", "127.0.0.1", port, "", 0, 5000, *how, *login, "KEYS", *keys
        )

    def undo() -> None:
        carry(there, server.port, "REPLACE")
        kept.stop()

    carry(client, kept.port, "COPY")
    return undo


WAYS = [
    one_record,
    everything,
    after_a_flush,
    another_database,
    a_snapshot,
    a_log,
    a_migration_undone,
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dev.Redis]:
    """A Redis that accepts commands to reload its data."""
    with dev.Redis(tmp_path, settings=DEBUG) as running:
        yield running


@pytest.mark.parametrize("keep", WAYS, ids=lambda way: way.__name__)
def test_a_restored_token_is_lost_and_not_honoured_again(
    keep: Keep, server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guards: withdraw() in judge.lua for a record alone, the count in prelude.lua for all."""
    store, client = open_store(server.url), redis.Redis.from_url(server.url)
    store.validate(Presented(store.create("eva", life_seconds=600).text), LUIS)
    token = store.create("ana", life_seconds=600, key="lost")
    made_before = store.create("ana", life_seconds=600, key="made")
    put_back = keep(client, server)
    store.validate(Presented(token.text), LUIS, key="k")
    put_back()

    # Its consumer gets "lost" too, and no other caller may consume it.
    for caller, key in ((EVA, ""), (LUIS, "k"), (LUIS, "")):
        with pytest.raises(errors.TokenLost):
            store.validate(Presented(token.text), caller, key=key)
    with pytest.raises(errors.TokenLost):
        store.reserve(Presented(token.text), EVA, lease_seconds=5)
    assert store.receipt(token.id).state is State.LOST
    # A repeated create issues a new token, because the earlier one is lost; or it says so.
    repeated = store.create("ana", life_seconds=600, key="lost")
    if keep is one_record:
        assert (repeated.id, repeated.state) == (token.id, State.LOST)
        assert not repeated.life_left
    else:
        assert (repeated.replayed, repeated.state) == (False, State.ACTIVE)
        again = store.create("ana", life_seconds=600, key="made")
        assert again.id != made_before.id
        assert store.validate(Presented(again.text), EVA).owner == "ana"
    # New tokens are good, also for a store that saw nothing of this.
    other = open_store(server.url)
    fresh = [made.create("ana", life_seconds=600) for made in (store, other)]
    assert {store.validate(Presented(made.text), EVA).owner for made in fresh} == {"ana"}


def test_restored_data_are_lost_to_every_store_once_one_notices(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the floor in prelude.lua. The promise ends at a store that saw nothing."""
    (store, later, last), client = (
        (open_store(server.url) for _ in range(3)),
        redis.Redis.from_url(server.url),
    )
    first, second, third = (store.create("ana", life_seconds=600).text for _ in range(3))
    put_back = everything(client, server)
    for text in (first, second, third):
        store.validate(Presented(text), LUIS)
    put_back()
    # docs/engine.md, "Where the promise ends".
    assert later.validate(Presented(first), EVA).owner == "ana"
    with pytest.raises(errors.TokenLost):
        store.validate(Presented(second), EVA)
    for other in (later, last):
        with pytest.raises(errors.TokenLost):
            other.validate(Presented(third), EVA)


def test_a_record_without_an_expiry_is_consumed_like_any_other(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """After PERSIST, a consume once deleted the record and left a stump."""
    store, client = open_store(server.url), redis.Redis.from_url(server.url)
    token = store.create("ana", life_seconds=600)
    assert client.persist(ANA.record(token.id))
    assert not store.validate(Presented(token.text), LUIS, key="k").replayed
    assert store.validate(Presented(token.text), LUIS, key="k").replayed
    with pytest.raises(errors.TokenAlreadyUsed):
        store.validate(Presented(token.text), EVA)


def test_a_consume_is_replayed_though_its_key_was_evicted(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the mark in the record. An eviction, or a clock that jumps, ends the key first."""
    store, client = open_store(server.url), redis.Redis.from_url(server.url)
    consumed, committed = store.create_many("ana", 2, life_seconds=600)
    first = store.validate(Presented(consumed.text), LUIS, key="k")
    held = store.reserve(Presented(committed.text), LUIS, lease_seconds=30, key="k")
    client.delete(*client.scan_iter("*:idem:*"))
    assert store.reserve(Presented(committed.text), LUIS, lease_seconds=30, key="k") == replace(
        held, replayed=True
    )
    store.commit(held.text, LUIS, key="k")
    client.delete(*client.scan_iter("*:idem:*"))
    assert store.commit(held.text, LUIS, key="k").replayed
    again = store.validate(Presented(consumed.text), LUIS, key="k")
    assert (again.replayed, again.consumed_at) == (True, first.consumed_at)
    for caller, key in ((LUIS, "another"), (EVA, "k"), (LUIS, "")):
        with pytest.raises(errors.TokenAlreadyUsed):
            store.validate(Presented(consumed.text), caller, key=key)


def test_a_repeat_gets_no_consume_of_another_caller(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """All data but an idempotency key are restored, for stores that saw nothing of it."""
    text, client = (
        open_store(server.url).create("ana", life_seconds=600).text,
        redis.Redis.from_url(server.url),
    )
    put_back = everything(client, server)
    open_store(server.url).validate(Presented(text), LUIS, key="k")
    put_back()
    later = open_store(server.url)
    later.validate(Presented(text), EVA)
    with pytest.raises(errors.TokenAlreadyUsed):
        later.validate(Presented(text), LUIS, key="k")
