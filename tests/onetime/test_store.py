"""The promises of the verbs, with one caller at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

import dev
from tests.stage.topologies import Topology
from tokenservice.onetime import errors
from tokenservice.onetime.format import Token, random_base62
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

LUIS = Party("luis", "luis@example.com")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[dev.Redis]:
    """A Redis that the test may stop, fill and reconfigure."""
    with dev.Redis(tmp_path) as server:
        yield server


def commands(client: redis.Redis) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name: facts["calls"] for name, facts in stats.items()}


def test_a_token_is_consumed_once(store: TokenStore) -> None:
    created = store.create("ana", life_seconds=10)

    consumed = store.validate(Presented(created.text), LUIS)

    assert (consumed.id, consumed.owner) == (created.id, "ana")
    assert consumed.created_at == created.created_at
    with pytest.raises(errors.TokenAlreadyUsed) as refusal:
        store.validate(Presented(created.text), LUIS)
    assert refusal.value.consumed_at == consumed.consumed_at


def test_times_are_the_servers(store: TokenStore) -> None:
    created = store.create("ana", life_seconds=10)

    assert created.expires_at - created.created_at == timedelta(seconds=10)
    assert abs(created.created_at - datetime.now(UTC)) < timedelta(seconds=30)


def test_an_expired_token_is_refused_as_expired(store: TokenStore) -> None:
    """Guard: the comparison with `expires` in state_of()."""
    created = store.create("ana", life_seconds=1)
    time.sleep(1.2)
    with pytest.raises(errors.TokenExpired):
        store.validate(Presented(created.text), LUIS)


def test_a_wrong_secret_is_unknown_and_consumes_nothing(store: TokenStore) -> None:
    """Guard: the comparison with `verifier` in turned_away()."""
    created = store.create("ana", life_seconds=10)
    token = Token.parse(created.text)
    forged = Token(token.id, token.epoch, random_base62(28))

    with pytest.raises(errors.TokenUnknown):
        store.validate(Presented(str(forged)), LUIS)
    store.validate(Presented(created.text), LUIS)


def test_a_token_that_never_existed_is_unknown(store: TokenStore) -> None:
    known = Token.parse(store.create("ana", life_seconds=10).text)
    # The same shard: another one may be served by another process, and be lost.
    invented = Token(known.id[:2] + random_base62(16), known.epoch, random_base62(28))
    with pytest.raises(errors.TokenUnknown):
        store.validate(Presented(str(invented)), LUIS)


def test_a_malformed_token_sends_nothing_to_redis(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, watch = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    text = store.create("ana", life_seconds=10).text
    before = commands(watch)
    with pytest.raises(errors.TokenMalformed):
        store.validate(Presented(text[:-1] + ("a" if text[-1] != "a" else "b")), LUIS)
    after = commands(watch)
    assert after.pop("cmdstat_info") == before.pop("cmdstat_info") + 1  # the test's own
    assert after == before


def test_a_record_outlives_its_token_by_the_receipt(topology: Topology, store: TokenStore) -> None:
    client = topology.client()
    created = store.create("ana", life_seconds=10)
    key = f"ott:{{{created.id[:2]}}}:{created.id}"
    assert 65_000 < client.pttl(key) <= 70_000
    store.validate(Presented(created.text), LUIS)
    assert 55_000 < client.pttl(key) <= 70_000


@pytest.mark.parametrize("end", ["validate", "commit", "revoke"])
def test_a_decided_record_stays_for_the_receipt_and_not_for_the_remaining_life(
    end: str, topology: Topology, store: TokenStore
) -> None:
    """Tokens of a day, used at once, would otherwise fill Redis for a day."""
    created = store.create("ana", life_seconds=86_400)
    if end == "validate":
        store.validate(Presented(created.text), LUIS)
    elif end == "commit":
        store.commit(store.reserve(Presented(created.text), LUIS, lease_seconds=5).text, LUIS)
    else:
        store.revoke_id(created.id, Party("ana"))
    assert topology.client().pttl(f"ott:{{{created.id[:2]}}}:{created.id}") <= 60_000


def test_redis_holds_no_part_of_a_secret(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: only the verifier is sent; a dump of every key and value proves it."""
    store, dump = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    dump.config_set("rdbcompression", "no")
    texts = [store.create("ana", life_seconds=10).text for _ in range(20)]
    for text in texts[:10]:
        store.validate(Presented(text), LUIS)

    keys = list(dump.scan_iter())
    held = b"".join(key + (dump.dump(key) or b"") for key in keys)
    shared = (b":history", b":owners")
    assert len([key for key in keys if key.count(b":") == 2 and not key.endswith(shared)]) == 20
    for text in texts:
        secret = Token.parse(text).secret
        for start in range(len(secret) - 6):
            assert secret[start : start + 7].encode() not in held


def test_a_full_server_still_consumes(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the HDEL in begin_change(), in judge.lua. Create is refused, and loses nothing."""
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    created, keyed = store.create_many("ana", 2, life_seconds=60)
    admin.config_set("maxmemory", "1")

    with pytest.raises(errors.StoreUnavailable):
        store.create("ana", life_seconds=10)
    store.validate(Presented(created.text), LUIS)
    with pytest.raises(errors.TokenAlreadyUsed):
        store.validate(Presented(created.text), LUIS)
    assert not store.validate(Presented(keyed.text), LUIS, key="k").replayed
    assert store.validate(Presented(keyed.text), LUIS, key="k").replayed


@pytest.mark.parametrize("setting", ["replicaof", "min-replicas-to-write"])
def test_a_server_that_cannot_write_is_unavailable_never_unknown(
    setting: str, own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    created = store.create("ana", life_seconds=30)
    if setting == "replicaof":
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:
        admin.config_set(setting, "1")
    with pytest.raises(errors.StoreUnavailable):
        store.validate(Presented(created.text), LUIS)


def test_a_stopped_server_is_unavailable_and_a_restarted_one_serves(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """The store replaces the pool's old sockets and the server's lost scripts."""
    store = open_store(own_redis.url)
    before = store.create("ana", life_seconds=10)
    own_redis.stop()
    with pytest.raises(errors.StoreUnavailable):
        store.create("ana", life_seconds=10)

    own_redis.start()

    store.validate(Presented(store.create("ana", life_seconds=10).text), LUIS)
    with pytest.raises(errors.TokenLost):  # Guard: the epoch in missing().
        store.validate(Presented(before.text), LUIS)


def test_each_verb_is_one_command(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """No verb reads and then writes from Python: each sends one EVALSHA.

    A list, which decides nothing, is two: the ids of a page, and then their receipts.
    """
    store, ana = open_store(own_redis.url), Party("ana")

    def every_verb() -> None:
        text = store.create("ana", life_seconds=10).text
        store.validate(Presented(text), LUIS, key="k" + text)
        held, freed, gone, named = store.create_many("ana", 4, life_seconds=10)
        store.commit(store.reserve(Presented(held.text), LUIS, lease_seconds=5).text, LUIS)
        store.release(store.reserve(Presented(freed.text), LUIS, lease_seconds=5).text, LUIS)
        store.revoke(gone.text, ana)
        store.revoke_id(named.id, ana)
        store.introspect(freed.text, LUIS)
        store.receipt(freed.id, ana)
        store.list_for("ana")
        store.revoke_all("ana")
        store.enable("ana")

    every_verb()  # Loads the scripts.
    with redis.Redis.from_url(own_redis.url).monitor() as monitor:
        every_verb()
        redis.Redis.from_url(own_redis.url).echo("end")
        sent = []
        for command in monitor.listen():
            if command["client_type"] != "lua":
                sent.append(command["command"].split()[0])
            if sent[-1:] == ["ECHO"]:
                break
    greeting = ("AUTH", "HELLO", "CLIENT", "ECHO")
    assert [name for name in sent if name not in greeting] == ["EVALSHA"] * 15
