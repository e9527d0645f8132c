"""A slot of a cluster that moves from one master to another: by the book, by halves, by force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from tests.stage.topologies import Node, Topology
from tests.stage.waiting import until

MANY = 100_000


class Slot:
    """One slot, as an operator with redis-cli would handle it."""

    def __init__(self, topology: Topology, key: str) -> None:
        self.nodes: list[Node] = list(topology.servers)
        self.number = int(self._on(self.nodes[0], "CLUSTER", "KEYSLOT", key))
        self._names = {node: self._on(node, "CLUSTER", "MYID") for node in self.nodes}

    @property
    def owner(self) -> Node:
        """The master that serves it, by its own report."""
        for node in self.nodes:
            for first, last, (_, _, name, *_), *_ in self._on(node, "CLUSTER", "SLOTS"):
                if first <= self.number <= last and name == self._names[node]:
                    return node
        raise AssertionError(f"no node serves slot {self.number}")

    def open(self, source: Node, target: Node) -> None:
        self._on(target, "CLUSTER", "SETSLOT", self.number, "IMPORTING", self._names[source])
        self._on(source, "CLUSTER", "SETSLOT", self.number, "MIGRATING", self._names[target])

    def keys(self, node: Node) -> list[bytes]:
        return list(self._on(node, "CLUSTER", "GETKEYSINSLOT", self.number, MANY))

    def carry(
        self, source: Node, target: Node, keys: Sequence[bytes | str] | None = None, *how: str
    ) -> None:
        """MIGRATE ``keys``, or all that the source has."""
        keys = self.keys(source) if keys is None else keys
        if keys:
            address = (target.host.address, target.port)
            login = ("AUTH", target.password)
            self._on(source, "MIGRATE", *address, "", 0, 5000, *how, *login, "KEYS", *keys)

    def assign(self, target: Node, *places: Node) -> None:
        """SETSLOT NODE, at ``places`` or at every master."""
        for node in places or [target, *(node for node in self.nodes if node is not target)]:
            if node.client().info("replication")["role"] == "master":
                self._on(node, "CLUSTER", "SETSLOT", self.number, "NODE", self._names[target])

    def move(self, target: Node) -> None:
        """Move it by the book, as redis-cli does."""
        source = self.owner
        self.open(source, target)
        self.carry(source, target)
        self.assign(target)
        self.settle(target)

    def force(self, target: Node) -> None:
        """Move it without opening it first: the target takes no new epoch."""
        source = self.owner
        self.assign(target, target)
        self.carry(source, target)
        self.assign(target)

    def settle(self, target: Node) -> None:
        """Wait until every master knows the owner, and has its epoch."""
        name = self._names[target].decode()
        epoch = self._epoch(target, name)
        until(lambda: all(self._epoch(node, name) == epoch for node in self.nodes))

    def leave(self, node: Node) -> None:
        """Forget a node that is gone."""
        self.nodes.remove(node)

    def _epoch(self, node: Node, name: str) -> int:
        for line in self._on(node, "CLUSTER", "NODES").decode().splitlines():
            if line.startswith(name):
                return int(line.split()[6])
        return -1

    def _on(self, node: Node, *command: Any) -> Any:
        with redis.Redis.from_url(node.url, socket_timeout=20) as client:
            reply = client.connection_pool.get_connection()
            try:
                reply.send_command(*command)
                return reply.read_response()
            finally:
                client.connection_pool.release(reply)
