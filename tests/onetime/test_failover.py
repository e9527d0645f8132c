"""Another process takes over: it refuses the tokens that it did not issue, as lost."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

import dev
from tests.stage import topologies
from tests.stage.connections import connect
from tests.stage.topologies import SLOTS, Node
from tests.stage.waiting import until
from tokenservice.onetime import errors
from tokenservice.onetime.format import owner_handle, shard_tag
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

pytestmark = pytest.mark.slow

LUIS = Party("luis", "luis@example.com")


def serves(store: TokenStore, owner: str) -> bool:
    try:
        text = store.create(owner, life_seconds=10).text
        return store.validate(Presented(text), LUIS).owner == owner
    except errors.StoreUnavailable:
        return False


def test_after_a_sentinel_failover_older_tokens_are_lost(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    """The promoted replica has the records, consumed and not, and honours none of them."""
    with topologies.sentinel(tmp_path) as topology:
        store = open_store(topology.url, receipt_seconds=600)
        consumed, active = (store.create("ana", life_seconds=600).text for _ in range(2))
        store.validate(Presented(consumed), LUIS)
        master, replica = topology.servers
        assert redis.Redis.from_url(master.url).wait(1, 5000) == 1

        master.kill()
        with pytest.raises(errors.StoreUnavailable):
            store.validate(Presented(active), LUIS)
        # A sentinel that was stalled for two seconds distrusts its clock, and does nothing for 30.
        until(lambda: serves(store, "ana"), seconds=90)

        assert redis.Redis.from_url(replica.url).info("replication")["role"] == "master"
        with pytest.raises(errors.TokenLost):
            store.validate(Presented(active), LUIS)
        with pytest.raises(errors.TokenAlreadyUsed):
            store.validate(Presented(consumed), LUIS)


def test_every_socket_leaves_a_deposed_master(tmp_path: Path) -> None:
    """A resumed one acts as a master for seconds, for any caller that still reaches it.

    Guard: in connection.py, that idle sockets are closed once the sentinels name another.
    """
    with topologies.sentinel(tmp_path) as topology, ThreadPoolExecutor(8) as callers:
        connection = connect(topology.url, connect_ms=1000, read_ms=3000, connections=8)
        store = TokenStore(connection, secret=secrets.token_bytes(32))

        def create_on_eight_sockets(owner: str, master: Node) -> None:
            # All of them wait for it, and so none can use the socket of another.
            master.client().client_pause(600)
            created = [callers.submit(store.create, owner, life_seconds=60) for _ in range(8)]
            for one in created:
                one.result()

        master, replica = topology.servers
        create_on_eight_sockets("ana", master)
        assert sum(map(len, connection._idle.values())) == 8
        assert master.process
        os.kill(master.process.pid, signal.SIGSTOP)
        until(lambda: serves(store, "ana"), seconds=90)
        os.kill(master.process.pid, signal.SIGCONT)
        create_on_eight_sockets("eva", replica)

        assert master.client().info("replication")["role"] == "master"
        names = f"*:{owner_handle('eva')}"
        assert replica.client().keys(names)
        assert not master.client().keys(names)


def test_a_repromoted_process_honours_no_earlier_token(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: master_replid in prelude.lua. The process is the same, and so is its run_id.

    design.py finds this history when a promotion may be undone: the successor never saw the
    consume, and gives the issuer a copy in which the token is active.
    """
    password = secrets.token_urlsafe(24)
    login = {"masterauth": password}
    with (
        dev.Redis(tmp_path / "issuer", None, login, password) as issuer,
        dev.Redis(tmp_path / "successor", None, login, password) as successor,
    ):
        first, second = (redis.Redis.from_url(server.url) for server in (issuer, successor))
        store = open_store(issuer.url)

        def follow(client: redis.Redis, leader: dev.Redis) -> None:
            client.replicaof("127.0.0.1", leader.port)
            until(lambda: client.info("replication").get("master_link_status") == "up")

        follow(second, issuer)
        text = store.create("ana", life_seconds=60).text
        assert first.wait(1, 5000) == 1
        second.replicaof("NO", "ONE")
        store.validate(Presented(text), LUIS)

        follow(first, successor)
        first.replicaof("NO", "ONE")

        # Another store: this one has counted the consume, and would know by the count alone.
        with pytest.raises(errors.TokenLost):
            open_store(issuer.url).validate(Presented(text), Party("eva"))


def test_a_replica_decides_nothing(tmp_path: Path, open_store: Callable[..., TokenStore]) -> None:
    """It would report good tokens as lost. Guard: ``role:master`` in prelude.lua."""
    password = secrets.token_urlsafe(24)
    with dev.Redis(tmp_path / "master", None, None, password) as master:
        follow = {"masterauth": password, "replicaof": f"127.0.0.1 {master.port}"}
        with dev.Redis(tmp_path / "replica", None, follow, password) as replica:
            client = redis.Redis.from_url(master.url)
            until(lambda: client.wait(1, 100) == 1)
            store, astray = open_store(master.url), open_store(replica.url)
            text = store.create("ana", life_seconds=60).text
            assert client.wait(1, 5000) == 1
            with pytest.raises(errors.StoreUnavailable):
                astray.validate(Presented(text), LUIS)
            with pytest.raises(errors.StoreUnavailable):
                astray.introspect(text, LUIS)
            assert store.validate(Presented(text), LUIS).owner == "ana"


def test_an_ipv6_sentinel_is_called_without_its_brackets() -> None:
    url = "redis+sentinel://[::1]:26379/tokens"
    client = connect(url, connect_ms=100, read_ms=100, connections=1).client
    (sentinel,) = client.connection_pool.sentinel_manager.sentinels
    assert sentinel.get_connection_kwargs()["host"] == "::1"


def test_a_slot_that_moves_loses_its_tokens(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    with topologies.cluster(tmp_path) as topology:
        store = open_store(topology.url, shards=topology.shards)
        before = store.create("ana", life_seconds=60).text

        clients = [redis.Redis.from_url(server.url) for server in topology.servers]
        slot = clients[0].execute_command("CLUSTER", "KEYSLOT", f"{{{shard_tag('ana', 64)}}}")
        source = slot * len(clients) // SLOTS
        target = (source + 1) % len(clients)
        ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
        clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        keys = clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        server = topology.servers[target]
        clients[source].execute_command(
            *("MIGRATE", "127.0.0.1", server.port, "", 0, 5000, "AUTH", server.password),
            *("KEYS", *keys),
        )
        for client in (clients[target], clients[source]):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])

        with pytest.raises(errors.TokenLost):
            store.validate(Presented(before), LUIS)
        assert serves(store, "ana")


def test_a_slot_without_a_master_is_unavailable_never_unknown(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    with topologies.cluster(tmp_path) as topology:
        store = open_store(topology.url, shards=topology.shards)
        tokens = {owner: store.create(owner, life_seconds=60).text for owner in "abcdefgh"}
        topology.servers[1].kill()
        down = {text for owner, text in tokens.items() if not serves(store, owner)}
        assert down
        for text in down:
            with pytest.raises(errors.StoreUnavailable):
                store.validate(Presented(text), LUIS)
