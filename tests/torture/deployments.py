"""Deployments with a failover: sentinels and clusters, their masters, and faults of a master."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from tests.stage.topologies import Node, Topology
from tests.stage.waiting import until
from tests.torture.coins import UNDECIDED, Coin, Side, Stores
from tokenservice.onetime import errors

#: Coins of each kind in a trial.
COINS = 12


class Deployment:
    """Masters with replicas, and the mechanism that replaces a lost master by a replica."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.nodes = topology.servers
        #: The service's own client. It is never replaced: it must recover by itself.
        self.service = self.stores(topology.url)

    def stores(self, url: str, **limits: int) -> Stores:
        return Stores(url, self.topology.shards, **limits)

    def patient(self, url: str, read_ms: int = 20_000) -> Stores:
        """Stores with long time limits, for calls that must succeed on a stalled machine."""
        return self.stores(url, connect_ms=2000, read_ms=read_ms, lease_seconds=5)

    def master(self) -> Node:
        """The master to be lost next."""
        raise NotImplementedError

    def is_whole(self) -> bool:
        """Whether each replica follows its master, and every server considers all others up."""
        raise NotImplementedError

    def has_replaced(self, node: Node) -> bool:
        """Whether all electors agree on another master in place of ``node``."""
        raise NotImplementedError

    def stalls(self) -> int:
        """The number of times an elector had been stalled, and so suspended failovers."""
        return 0

    def sides(self) -> list[Side]:
        """A side that connects as the service does, and one for each server."""
        return [Side(url) for url in (self.topology.url, *(node.url for node in self.nodes))]

    def settle(self) -> None:
        def is_whole() -> bool:
            # A sentinel that demotes a server closes all its connections, the test's included.
            with contextlib.suppress(redis.ConnectionError):
                return self.is_whole()
            return False

        until(is_whole, seconds=90)

    def await_replacement(self, node: Node) -> None:
        until(lambda: self.has_replaced(node), seconds=90)

    def bring_back(self, node: Node) -> None:
        """Start a server that was killed and replaced."""
        self.await_replacement(node)
        node.start()

    def replicas_of(self, master: Node) -> list[Node]:
        return [node for node in self.nodes if replication(node).get("master_port") == master.port]

    def coins_on(self, master: Node) -> tuple[str, list[Coin]]:
        """Coins that ``master`` issued and its replicas have, and their owner."""
        stores = self.patient(master.url)
        owner = next(name for name in map(str, range(1000)) if stores.serves(name))
        coins = stores.issue(owner, COINS, life_seconds=600)
        replicas = len(self.replicas_of(master))
        assert master.client().wait(replicas, 5000) == replicas
        return owner, coins

    def fresh_coins(self) -> tuple[Node, str, list[Coin]]:
        """The master to be lost next, and an owner with coins on it, of a whole deployment.

        A stall may have the master replaced meanwhile: then the same of its successor.
        """
        found: list[Any] = []

        def is_issued() -> bool:
            self.settle()
            master = self.master()
            try:
                found[:] = master, *self.coins_on(master)
            except (AssertionError, StopIteration, errors.StoreUnavailable, redis.RedisError):
                return False
            return True

        until(is_issued, seconds=1)
        master, owner, coins = found
        return master, owner, coins

    def present_all(self, coins: Sequence[Coin]) -> None:
        """Present each coin until its outcome is decided."""
        stores = self.patient(self.topology.url)
        for coin in coins:
            until(lambda coin=coin: stores.present(coin) not in UNDECIDED)


class Sentinels(Deployment):
    """One master with replicas, and three sentinels that appoint its successor."""

    def master(self) -> Node:
        (address,) = self.appointed()
        return next(node for node in self.nodes if node.address == address)

    def appointed(self) -> set[str]:
        """The addresses that sentinels name as the master's: several while they disagree."""
        named = (
            watcher.client().sentinel_get_master_addr_by_name("tokens")
            for watcher in self.topology.watchers
        )
        return {f"{host.decode()} {port}" for host, port in named}

    def is_whole(self) -> bool:
        links = [replication(node).get("master_link_status") for node in self.nodes]
        watchers = [watcher.client() for watcher in self.topology.watchers]
        seen = [
            replica["flags"]
            for watcher in watchers
            for replica in watcher.sentinel_slaves("tokens")
        ]
        return (
            self.appointed() == {node.address for node in self.nodes if is_master(node)}
            and sorted(links, key=str) == [None, *["up"] * (len(self.nodes) - 1)]
            and seen == ["slave"] * 3 * (len(self.nodes) - 1)
            and not any(watcher.info("sentinel")["sentinel_tilt"] for watcher in watchers)
        )

    def has_replaced(self, node: Node) -> bool:
        appointed = self.appointed()
        return len(appointed) == 1 and node.address not in appointed

    def bring_back(self, node: Node) -> None:
        # A sentinel would have written this into its redis.conf, had the server been up.
        self.await_replacement(node)
        node.settings["replicaof"] = self.master().address
        super().bring_back(node)

    def fail_over(self) -> None:
        """Have another master appointed without a fault, as an operator would."""
        self.topology.watchers[0].client().sentinel_failover("tokens")

    def stalls(self) -> int:
        return sum(watcher.log.read_text().count("+tilt") for watcher in self.topology.watchers)


class Cluster(Deployment):
    """Three masters that vote, with a replica each."""

    def master(self) -> Node:
        return secrets.choice([node for node in self.nodes if is_master(node)])

    def is_whole(self) -> bool:
        links = [replication(node).get("master_link_status") for node in self.nodes]
        return sorted(links, key=str) == [None] * 3 + ["up"] * 3 and all(
            sorted(flags) == ["master"] * 3 + ["slave"] * 3
            for flags in map(self._flags, self.nodes)
        )

    def has_replaced(self, node: Node) -> bool:
        others = (other.client() for other in self.nodes if other is not node)
        return all(
            other.cluster("info")["cluster_state"] == "ok"
            and not other.cluster("nodes")[f"127.0.0.1:{node.port}"]["slots"]
            for other in others
        )

    def _flags(self, node: Node) -> list[str]:
        """The flags of each node in the view of ``node``: master, slave, fail, …"""
        known = node.client().cluster("nodes").values()
        return [other["flags"].removeprefix("myself,") for other in known]


def replication(node: Node) -> dict[str, Any]:
    return node.client().info("replication")


def is_master(node: Node) -> bool:
    return bool(replication(node)["role"] == "master")


@contextlib.contextmanager
def cut_off(master: Node, replicas: Sequence[Node]) -> Iterator[None]:
    """Cut the replicas off from ``master`` alone: it closes their links, and their password for it
    is wrong."""
    for replica in replicas:
        replica.client().config_set("masterauth", "forgotten")
    master.client().client_kill_filter(_type="replica")
    try:
        yield
    finally:
        for replica in replicas:
            replica.client().config_set("masterauth", replica.password)


@contextlib.contextmanager
def stopped(node: Node) -> Iterator[None]:
    """Stop the process by SIGSTOP, and let it continue afterwards."""
    assert node.process
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
