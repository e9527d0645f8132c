"""Guards that no other test module covers; ``make mutants`` breaks each, and a test fails."""

from __future__ import annotations

import itertools
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import dev
from tests.stage.topologies import Topology
from tokenservice.onetime import errors
from tokenservice.onetime.format import Token, owner_handle, random_base62, shard_tag
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented, State

ANA, LUIS = Party("ana", "ana@example.com"), Party("luis", "luis@example.com")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[dev.Redis]:
    """A Redis with its built-in snapshots on, that the test may fill, crash and restart."""
    with dev.Redis(tmp_path, settings={"save": "3600 1"}) as server:
        yield server


def crash(server: dev.Redis) -> None:
    """Restart it with the data that it has now."""
    redis.Redis.from_url(server.url).save()
    server.kill()
    server.start()


@pytest.mark.parametrize("verb", ["validate", "reserve", "revoke", "introspect"])
def test_a_forged_secret_opens_nothing(verb: str, store: TokenStore) -> None:
    """Guard: the comparison with `verifier`, in each of three scripts and in introspect()."""
    token = Token.parse(store.create("ana", life_seconds=30).text)
    forged = str(Token(token.id, token.epoch, random_base62(28)))
    if verb == "introspect":
        assert store.introspect(forged, LUIS) is None
    else:
        attempts: dict[str, Callable[[], object]] = {
            "validate": lambda: store.validate(Presented(forged), LUIS),
            "reserve": lambda: store.reserve(Presented(forged), LUIS, lease_seconds=5),
            "revoke": lambda: store.revoke(forged, LUIS),
        }
        with pytest.raises(errors.TokenUnknown):
            attempts[verb]()
    assert store.receipt(token.id).state is State.ACTIVE


@pytest.mark.parametrize("verb", ["validate", "reserve", "revoke"])
def test_a_made_up_token_does_not_reveal_whether_its_id_exists(
    verb: str, store: TokenStore
) -> None:
    """Guard: `missing(epoch)` for a wrong secret too, in turned_away() and in revoke.lua."""
    attempts: dict[str, Callable[[str], object]] = {
        "validate": lambda text: store.validate(Presented(text), LUIS),
        "reserve": lambda text: store.reserve(Presented(text), LUIS, lease_seconds=5),
        "revoke": lambda text: store.revoke(text, LUIS),
    }
    token = Token.parse(store.create("ana", life_seconds=30).text)
    for epoch in (token.epoch, "0000" if token.epoch != "0000" else "1111"):
        refusals = set()
        for token_id in (token.id, token.id[:2] + random_base62(16)):
            made_up = str(Token(token_id, epoch, random_base62(28)))
            with pytest.raises(errors.TokenRefused) as refusal:
                attempts[verb](made_up)
            refusals.add(refusal.type)
        assert len(refusals) == 1, epoch


def test_the_name_of_another_key_is_no_id(
    topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: checked_id(). A key begins with a tag, and a tag may be how `index:` begins."""
    store = open_store(topology.url, shards=3844)
    names = (f"owner {n}" for n in itertools.count())
    owner = next(name for name in names if shard_tag(name, 3844) == "in")
    store.create(owner, life_seconds=30)
    name = f"index:{owner_handle(owner)}"
    assert topology.client().exists(Keys("in", "").record(name))
    with pytest.raises(errors.TokenUnknown):
        store.receipt(name, Party(owner))
    with pytest.raises(errors.TokenUnknown):
        store.revoke_id(name, Party(owner))


def test_an_ended_lease_cannot_release_the_next(store: TokenStore) -> None:
    """Guard: the nonce in release.lua."""
    text = store.create("ana", life_seconds=30).text
    ended = store.reserve(Presented(text), LUIS, lease_seconds=1)
    time.sleep(1.2)
    following = store.reserve(Presented(text), LUIS, lease_seconds=30)
    with pytest.raises(errors.LeaseEnded):
        store.release(ended.text, LUIS)
    store.commit(following.text, LUIS)


def test_one_key_may_serve_several_verbs(store: TokenStore) -> None:
    """Guard: the verb in digest() that names the key. Clients make one key for one flow."""
    text = store.create("ana", life_seconds=30, key="k").text
    store.release(store.reserve(Presented(text), ANA, lease_seconds=30, key="k").text, ANA)
    assert not store.validate(Presented(text), ANA, key="k").replayed


def test_a_full_server_still_releases_and_revokes(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the HDEL in begin_change(), in judge.lua."""
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    token = store.create("ana", life_seconds=30)
    admin.config_set("maxmemory", "1")

    store.release(store.reserve(Presented(token.text), LUIS, lease_seconds=30).text, LUIS)
    store.revoke_id(token.id, ANA)

    assert store.receipt(token.id).state is State.REVOKED


def test_a_create_is_not_replayed_after_a_restart(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the term beside the ids in create.lua. A lost token is of no use."""
    store = open_store(own_redis.url)
    before = store.create("ana", life_seconds=30, key="k")
    crash(own_redis)
    after = store.create("ana", life_seconds=30, key="k")
    assert after.id != before.id
    store.validate(Presented(after.text), LUIS)


def test_a_token_lost_in_a_restart_takes_no_place(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the mark of the term in the set that create.lua counts."""
    store = open_store(own_redis.url, max_active=3)
    store.create_many("ana", 3, life_seconds=30)
    crash(own_redis)
    store.create_many("ana", 3, life_seconds=30)
    with pytest.raises(errors.TooManyActive):
        store.create("ana", life_seconds=30)


def test_a_list_names_a_reserved_token_as_long_as_its_receipt_lasts(
    topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the life that reserve.lua gives the index. A lease may outlast the token."""
    store = open_store(topology.url, shards=topology.shards, receipt_seconds=1, window_seconds=1)
    owner = Party(f"owner {time.monotonic_ns()}")
    token = store.create(owner.id, life_seconds=1)
    held = store.reserve(Presented(token.text), LUIS, lease_seconds=30)
    time.sleep(2.5)
    assert store.receipt(token.id, owner).state is State.RESERVED
    assert [item.id for item in store.list_for(owner.id).items] == [token.id]
    store.commit(held.text, LUIS)


def test_a_final_state_survives_a_restart(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the place of the fence in state_of(), behind the states that need none."""
    store = open_store(own_redis.url)
    consumed, revoked, active = store.create_many("ana", 3, life_seconds=30)
    store.validate(Presented(consumed.text), LUIS)
    store.revoke_id(revoked.id, ANA)
    crash(own_redis)
    for token, refusal in (
        (consumed, errors.TokenAlreadyUsed),
        (revoked, errors.TokenRevoked),
        (active, errors.TokenLost),
    ):
        with pytest.raises(refusal):
            store.validate(Presented(token.text), LUIS)


class Relay(socketserver.ThreadingTCPServer):
    """A TCP relay that on request loses one reply, and then hangs up."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Relayed)
        self.target = target
        self.loses_next_reply = False


class Relayed(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        client = self.request
        with socket.create_connection(self.server.target) as target:
            other = {client: target, target: client}
            while True:
                for ready in select.select([client, target], [], [])[0]:
                    received = ready.recv(65536)
                    if ready is target and self.server.loses_next_reply:
                        self.server.loses_next_reply = False
                        return
                    if not received:
                        return
                    other[ready].sendall(received)


@pytest.fixture
def relay(own_redis: dev.Redis) -> Iterator[Relay]:
    with Relay(("127.0.0.1", own_redis.port)) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        yield relay
        relay.shutdown()
        thread.join()


def test_a_lost_reply_is_unavailable_and_nothing_is_sent_twice(
    own_redis: dev.Redis, relay: Relay, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the 0 in Retry(NoBackoff(), 0). With a 1, the consumer gets "already used"."""
    relayed = own_redis.url.replace(str(own_redis.port), str(relay.server_address[1]))
    store = open_store(relayed)
    loading, token = store.create_many("ana", 2, life_seconds=30)
    store.validate(Presented(loading.text), LUIS)

    relay.loses_next_reply = True
    with pytest.raises(errors.StoreUnavailable):
        store.validate(Presented(token.text), LUIS, key="k")

    assert not relay.loses_next_reply
    assert store.receipt(token.id).state is State.CONSUMED
    assert store.validate(Presented(token.text), LUIS, key="k").replayed
