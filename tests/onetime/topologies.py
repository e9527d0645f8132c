"""Redis as it is deployed: one server, a master under Sentinel, and a cluster of masters."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from tokenservice import local
from tokenservice.local.server import is_free
from tokenservice.onetime.connection import Connection

SLOTS = 16_384


@dataclass
class Topology:
    """Where the service connects to, and its servers, for a test to look into."""

    url: str
    servers: list[local.Redis]
    shards: int

    def client(self) -> redis.Redis:
        """A client of the whole; that of a cluster speaks like that of one server."""
        connection = Connection(self.url, connect_ms=2000, read_ms=5000, connections=8)
        return cast(redis.Redis, connection.client)

    def clear(self) -> None:
        self.client().flushall()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[Topology]:
    with local.Redis(directory) as server:
        yield Topology(server.url, [server], shards=1)


def port_of_a_node() -> int:
    """A free port whose companion 10,000 above, where the nodes of a cluster talk, is free too.

    Both lie below the range that kernels lend to clients.
    """
    while not (is_free(port := 20_000 + secrets.randbelow(2_000)) and is_free(port + 10_000)):
        pass
    return port


@contextlib.contextmanager
def cluster(directory: Path, masters: int = 3) -> Iterator[Topology]:
    """Masters that share out the slots evenly, with one password."""
    settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    password = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as running:
        nodes = [
            running.enter_context(
                local.Redis(directory / str(n), port_of_a_node(), settings, password)
            )
            for n in range(masters)
        ]
        clients = [redis.Redis.from_url(node.url) for node in nodes]
        for n, client in enumerate(clients):
            slots = range(n * SLOTS // masters, (n + 1) * SLOTS // masters)
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        until(lambda: all(client.cluster("info")["cluster_state"] == "ok" for client in clients))
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        yield Topology(f"redis+cluster://:{password}@{hosts}", nodes, shards=64)


class Watcher(local.Redis):
    """A sentinel: the same program, another task."""

    name = "sentinel"

    def __init__(self, directory: Path, master: local.Redis, quorum: int) -> None:
        super().__init__(directory)
        self._watched = (
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor tokens 127.0.0.1 {master.port} {quorum}\n"
            f"sentinel auth-pass tokens {master.password}\n"
            "sentinel down-after-milliseconds tokens 1000\n"
            "sentinel failover-timeout tokens 5000\n"
        )

    def command(self) -> list[str]:
        (self.directory / "sentinel.conf").write_text(self._watched)
        return [local.find_redis(), "sentinel.conf", "--sentinel"]

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(redis.Redis("127.0.0.1", self.port).ping())
        return False


@contextlib.contextmanager
def sentinel(directory: Path, replicas: int = 1) -> Iterator[Topology]:
    """A master with replicas, watched by three sentinels; ``masters`` has them all."""
    password = secrets.token_urlsafe(24)
    login = {"masterauth": password}
    with contextlib.ExitStack() as running:
        master = running.enter_context(local.Redis(directory / "0", None, login, password))
        servers = [master]
        for n in range(1, replicas + 1):
            follow = {**login, "replicaof": f"127.0.0.1 {master.port}"}
            replica = local.Redis(directory / str(n), None, follow, password)
            servers.append(running.enter_context(replica))
        watchers = [Watcher(directory / f"sentinel{n}", master, quorum=2) for n in range(3)]
        for watcher in watchers:
            running.enter_context(watcher)
        one = redis.Redis("127.0.0.1", watchers[0].port)
        until(lambda: one.sentinel_master("tokens")["num-other-sentinels"] == 2)
        until(lambda: one.sentinel_master("tokens")["num-slaves"] == replicas)
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        yield Topology(f"redis+sentinel://:{password}@{hosts}/tokens", servers, shards=1)
