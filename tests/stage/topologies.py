"""Redis as it is deployed: one server, a master under Sentinel, and a cluster of masters."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import redis

import dev
from dev.server import keep
from tests.stage.connections import connect
from tests.stage.waiting import until

SLOTS = 16_384


class Host:
    """The host of a server: this machine, unless a subclass has another.

    While it is entered, the sockets and the processes that this thread makes belong to it.
    """

    address = "127.0.0.1"
    #: Additional environment of the server processes on it.
    environment: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


HERE = Host()


class Node(dev.Redis):
    """A Redis of several, on a host of its own or not."""

    def __init__(
        self,
        directory: Path,
        password: str,
        settings: Mapping[str, str],
        port: int | None = None,
        host: Host = HERE,
    ) -> None:
        # The first address is also the source of its connections.
        bind = " ".join(dict.fromkeys((host.address, "127.0.0.1")))
        super().__init__(directory, port, {"bind": bind, **settings}, password)
        self.host = host

    @property
    def address(self) -> str:
        """Its host and port, as redis.conf has them."""
        return f"{self.host.address} {self.port}"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.host.address}:{self.port}/0"

    def options(self) -> dict[str, Any]:
        options = super().options()
        return {**options, "env": {**options["env"], **self.host.environment}}

    def start(self) -> None:
        with self.host:
            super().start()

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5)


@dataclass
class Topology:
    """The address for the service, and the servers behind it."""

    url: str
    servers: Sequence[Node]
    shards: int
    watchers: Sequence[Watcher] = ()

    def client(self) -> redis.Redis:
        """A client of the whole; that of a cluster has the interface of a single one."""
        connection = connect(self.url, connect_ms=2000, read_ms=5000, connections=8)
        return cast(redis.Redis, connection.client)

    def clear(self) -> None:
        self.client().flushall()


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[Topology]:
    with Node(directory, secrets.token_urlsafe(24), {}) as server:
        yield Topology(server.url, [server], shards=1)


def port_of_a_node() -> int:
    """A free port whose companion 10,000 above, where the nodes of a cluster talk, is free too.

    Both lie below the range that kernels lend to clients.
    """
    while not (keep(port := 20_000 + secrets.randbelow(2_000)) and keep(port + 10_000)):
        pass
    return port


@contextlib.contextmanager
def cluster(
    directory: Path, masters: int = 3, replicas: int = 0, timeout_ms: int = 2000
) -> Iterator[Topology]:
    """Masters that share out the slots evenly, with one password.

    :param replicas: number for each master; the servers are all masters, then all replicas
    :param timeout_ms: the silence after which a node counts as failed
    """
    password = secrets.token_urlsafe(24)
    settings = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": str(timeout_ms),
        "masterauth": password,
    }
    with contextlib.ExitStack() as running:
        nodes = [
            running.enter_context(Node(directory / str(n), password, settings, port_of_a_node()))
            for n in range(masters * (1 + replicas))
        ]
        clients = [redis.Redis.from_url(node.url) for node in nodes]
        for n, client in enumerate(clients[:masters]):
            slots = range(n * SLOTS // masters, (n + 1) * SLOTS // masters)
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        until(lambda: all(client.cluster("info")["cluster_state"] == "ok" for client in clients))
        names = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
        for n, client in enumerate(clients[masters:]):
            until(functools.partial(replicates, client, names[n % masters]))
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        yield Topology(f"redis+cluster://:{password}@{hosts}", nodes, shards=64)


def replicates(client: redis.Redis, master: str) -> bool:
    """Make a node of a cluster a replica; return whether it has a copy yet."""
    if client.info("replication")["role"] == "master":
        # It takes a while until each node has heard of all others.
        with contextlib.suppress(redis.ResponseError):
            client.execute_command("CLUSTER", "REPLICATE", master)
    return client.info("replication").get("master_link_status") == "up"


class Watcher(Node):
    """A sentinel: the same program, another task."""

    name = "sentinel"

    def __init__(
        self, directory: Path, master: Node, host: Host = HERE, down_after_ms: int = 1000
    ) -> None:
        super().__init__(directory, master.password, {}, host=host)
        self._master, self._down_after_ms = master, down_after_ms

    @property
    def url(self) -> str:
        # Sentinels take no password.
        return f"redis://{self.host.address}:{self.port}"

    def command(self) -> list[str]:
        (self.directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind {self.settings['bind']}\n"
            f"sentinel monitor tokens {self._master.address} 2\n"
            f"sentinel auth-pass tokens {self._master.password}\n"
            f"sentinel down-after-milliseconds tokens {self._down_after_ms}\n"
            "sentinel failover-timeout tokens 5000\n"
        )
        return [dev.find_redis(), "sentinel.conf", "--sentinel"]

    def responds(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client().ping())
        return False


@contextlib.contextmanager
def sentinel(
    directory: Path,
    replicas: int = 1,
    hosts: Sequence[Host] | None = None,
    down_after_ms: int = 1000,
) -> Iterator[Topology]:
    """A master with replicas, watched by three sentinels.

    :param hosts: of the master, of each replica and of each sentinel; all here by default
    :param down_after_ms: the silence after which a server counts as failed
    """
    password = secrets.token_urlsafe(24)
    hosts = hosts or [HERE] * (1 + replicas + 3)
    servers: list[Node] = []
    with contextlib.ExitStack() as running:
        for n, host in enumerate(hosts[: 1 + replicas]):
            follow = {"replicaof": servers[0].address} if servers else {}
            settings = {"masterauth": password, **follow}
            node = Node(directory / str(n), password, settings, host=host)
            servers.append(running.enter_context(node))
        watchers = [
            running.enter_context(
                Watcher(directory / f"sentinel{n}", servers[0], host, down_after_ms)
            )
            for n, host in enumerate(hosts[1 + replicas :])
        ]
        one = watchers[0].client()
        until(lambda: one.sentinel_master("tokens")["num-other-sentinels"] == 2)
        until(lambda: one.sentinel_master("tokens")["num-slaves"] == replicas)
        names = ",".join(watcher.address.replace(" ", ":") for watcher in watchers)
        yield Topology(f"redis+sentinel://:{password}@{names}/tokens", servers, 1, watchers)
