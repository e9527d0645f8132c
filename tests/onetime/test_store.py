"""What the verbs promise, one caller at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tokenservice import local
from tokenservice.onetime import errors
from tokenservice.onetime.format import Token, random_base62
from tokenservice.onetime.store import TokenStore


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[local.Redis]:
    """A Redis that the test may stop, fill and reconfigure."""
    with local.Redis(tmp_path) as server:
        yield server


def commands(client: redis.Redis) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name: facts["calls"] for name, facts in stats.items()}


def test_a_token_is_consumed_once(store: TokenStore) -> None:
    created = store.create("ana", life_seconds=10)

    consumed = store.validate(created.text, caller="luis")

    assert (consumed.id, consumed.owner) == (created.id, "ana")
    assert consumed.created_at == created.created_at
    with pytest.raises(errors.TokenAlreadyUsed) as refusal:
        store.validate(created.text, caller="luis")
    assert refusal.value.consumed_at == consumed.consumed_at


def test_times_are_the_servers(store: TokenStore) -> None:
    created = store.create("ana", life_seconds=10)

    assert created.expires_at - created.created_at == timedelta(seconds=10)
    assert abs(created.created_at - datetime.now(UTC)) < timedelta(seconds=30)


def test_a_token_expires_and_says_so(store: TokenStore) -> None:
    """Guard: the comparison with `expires` in validate.lua."""
    created = store.create("ana", life_seconds=1)
    time.sleep(1.2)
    with pytest.raises(errors.TokenExpired):
        store.validate(created.text, caller="luis")


def test_a_wrong_secret_is_unknown_and_burns_nothing(store: TokenStore) -> None:
    """Guard: the comparison with `verifier` in validate.lua."""
    created = store.create("ana", life_seconds=10)
    token = Token.parse(created.text)
    forged = Token(token.id, token.epoch, random_base62(28))

    with pytest.raises(errors.TokenUnknown):
        store.validate(str(forged), caller="luis")
    store.validate(created.text, caller="luis")


def test_a_token_that_never_was_is_unknown(store: TokenStore) -> None:
    epoch = Token.parse(store.create("ana", life_seconds=10).text).epoch
    with pytest.raises(errors.TokenUnknown):
        store.validate(str(Token(random_base62(18), epoch, random_base62(28))), caller="luis")


def test_a_malformed_token_asks_redis_nothing(
    own_redis: local.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, watch = open_store(own_redis), redis.Redis.from_url(own_redis.url)
    text = store.create("ana", life_seconds=10).text
    before = commands(watch)
    with pytest.raises(errors.TokenMalformed):
        store.validate(text[:-1] + ("a" if text[-1] != "a" else "b"), caller="luis")
    after = commands(watch)
    assert after.pop("cmdstat_info") == before.pop("cmdstat_info") + 1  # ours, to count
    assert after == before


def test_a_record_outlives_its_token_by_the_receipt(
    redis_server: local.Redis, store: TokenStore
) -> None:
    client = redis.Redis.from_url(redis_server.url)
    created = store.create("ana", life_seconds=10)
    key = f"ott:{{{created.id[:2]}}}:{created.id}"
    assert 65_000 < client.pttl(key) <= 70_000
    store.validate(created.text, caller="luis")
    assert 65_000 < client.pttl(key) <= 70_000


def test_redis_holds_no_part_of_a_secret(
    own_redis: local.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: only the verifier is sent; a dump of every key and value proves it."""
    store, dump = open_store(own_redis), redis.Redis.from_url(own_redis.url)
    texts = [store.create("ana", life_seconds=10).text for _ in range(20)]
    for text in texts[:10]:
        store.validate(text, caller="luis")

    keys = list(dump.scan_iter())
    held = b"".join(b"".join([key, *dump.hgetall(key).values()]) for key in keys)
    assert len(keys) == 20
    for text in texts:
        secret = Token.parse(text).secret
        for start in range(len(secret) - 6):
            assert secret[start : start + 7].encode() not in held


def test_a_full_server_still_consumes(
    own_redis: local.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: open_for_writing in prelude.lua. Create is refused, and loses nothing."""
    store, admin = open_store(own_redis), redis.Redis.from_url(own_redis.url)
    created = store.create("ana", life_seconds=10)
    admin.config_set("maxmemory", "1")

    with pytest.raises(errors.StoreUnavailable):
        store.create("ana", life_seconds=10)
    store.validate(created.text, caller="luis")
    with pytest.raises(errors.TokenAlreadyUsed):
        store.validate(created.text, caller="luis")


@pytest.mark.parametrize("setting", ["replicaof", "min-replicas-to-write"])
def test_a_server_that_cannot_write_is_unavailable_never_unknown(
    setting: str, own_redis: local.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, admin = open_store(own_redis), redis.Redis.from_url(own_redis.url)
    created = store.create("ana", life_seconds=30)
    if setting == "replicaof":
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:
        admin.config_set(setting, "1")
    with pytest.raises(errors.StoreUnavailable):
        store.validate(created.text, caller="luis")


def test_a_stopped_server_is_unavailable_and_a_new_one_needs_no_help(
    own_redis: local.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """The pool's old sockets and the server's lost scripts are both replaced unseen."""
    store = open_store(own_redis)
    before = store.create("ana", life_seconds=10)
    own_redis.stop()
    with pytest.raises(errors.StoreUnavailable):
        store.create("ana", life_seconds=10)

    own_redis.start()

    store.validate(store.create("ana", life_seconds=10).text, caller="luis")
    with pytest.raises(errors.TokenLost):  # Guard: the epoch in validate.lua.
        store.validate(before.text, caller="luis")


def test_each_verb_is_one_command(
    own_redis: local.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, watch = open_store(own_redis), redis.Redis.from_url(own_redis.url)
    store.validate(store.create("ana", life_seconds=10).text, caller="luis")
    before = commands(watch)["cmdstat_evalsha"]
    for _ in range(5):
        store.validate(store.create("ana", life_seconds=10).text, caller="luis")
    after = commands(watch)
    assert after["cmdstat_evalsha"] - before == 10
    assert "cmdstat_eval" not in after
