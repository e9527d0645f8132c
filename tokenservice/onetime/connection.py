"""One way to reach Redis, alone, under Sentinel or as a cluster: scripts, and INFO.

Timeouts are short and nothing that may have run is sent twice. redis-py 8 repeats a command up to
ten times by itself: a consume whose first reply was lost would then be answered "already used" to
the very caller who consumed it. Repeating is left to that caller, who has the idempotency key.
What Redis says that it did not run, because a slot of the cluster is elsewhere or on its way, is
repeated here for a while.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from tokenservice.onetime.errors import StoreUnavailable

SENTINEL_OPTIONS = ("socket_connect_timeout", "socket_timeout", "retry")
#: redis-py raises an IndexError where no node of a cluster serves a slot.
FAILURES = (redis.RedisError, RedisClusterException, OSError, IndexError)
#: How long a call waits for a slot that is on its way, and how often it asks.
MOVING_SECONDS, ASK_EVERY_SECONDS = 0.5, 0.02
#: Redis ran nothing. An ASK leads to a server that only imports the slot, and it is not followed:
#: the term there is fresh only once the slot has arrived (docs/engine.md, "Slots that move").
MOVING = (AskError, TryAgainError, ClusterDownError)


class Connection:
    """Where Redis is and how long to wait for it. No socket is opened before the first command.

    :param url: ``redis://``, ``rediss://``, ``unix://``, or, with several hosts,
        ``redis+sentinel://[user:password@]host:port,host:port/service[/db]`` and
        ``redis+cluster://[user:password@]host:port,host:port``, or ``rediss+…`` with TLS; all with
        options of redis-py behind a "?", and ``sentinel_username`` and ``sentinel_password``
    :param connect_ms: how long to wait for a connection, in milliseconds
    :param read_ms: how long to wait for an answer, in milliseconds
    :param connections: how many threads this process has; each may have one at a time

    Looking up a host's name is the resolver's affair, and has its timeouts.
    """

    def __init__(self, url: str, *, connect_ms: int, read_ms: int, connections: int) -> None:
        self._url = url
        self._options: dict[str, Any] = {
            "protocol": 2,
            "driver_info": None,
            "socket_connect_timeout": connect_ms / 1000,
            "socket_timeout": read_ms / 1000,
            "max_connections": connections,
            "retry": Retry(NoBackoff(), 0),
        }
        self._client: redis.Redis | RedisCluster | None = None
        self._lock = threading.Lock()
        # The sockets that no call is using.
        self._idle: deque[redis.Connection] = deque()
        # Two processes on one socket would read each other's answers.
        os.register_at_fork(after_in_child=self._idle.clear)

    def script(self, source: str) -> Script:
        return Script(self, source)

    def info(self) -> list[dict[str, Any]]:
        """What each master says of itself.

        :raises StoreUnavailable: one of them does not answer
        """
        try:
            client = self.client
            if isinstance(client, RedisCluster):
                found = client.info(target_nodes=RedisCluster.PRIMARIES)
                return [found] if "role" in found else list(found.values())
            return [client.info()]
        except FAILURES as error:
            raise StoreUnavailable(f"info: {type(error).__name__}") from error

    def one_of_each_master(self, keys: Sequence[str]) -> list[str]:
        """Choose among ``keys`` so that each master that has some of them has one.

        :raises StoreUnavailable: no node tells which they are
        """
        try:
            client = self.client
            if not isinstance(client, RedisCluster):
                return list(keys[:1])
            return list({client.get_node_from_key(key).name: key for key in keys}.values())
        except FAILURES as error:
            raise StoreUnavailable(f"cluster: {type(error).__name__}") from error

    def ask(self, key: str, *command: Any) -> Any:
        """Send one command about ``key`` to the server that has it, and read its answer."""
        client = self.client
        if isinstance(client, RedisCluster):
            return self._ask_cluster(client, key, *command)
        return self._ask_one(client, *command)

    def _ask_cluster(self, client: RedisCluster, key: str, *command: Any) -> Any:
        """Ask the owner of the slot, again when Redis says that it ran nothing.

        Not by ``client.execute_command``, which follows an ASK.
        """
        until, pause = time.monotonic() + MOVING_SECONDS, 0.0
        while True:
            try:
                node = client.get_redis_connection(client.get_node_from_key(key))
                return node.execute_command(*command)
            except MovedError as error:
                client.nodes_manager.move_slot(error)
                refusal: Exception = error
            except MOVING as error:
                refusal = error
            except (redis.ConnectionError, redis.TimeoutError, SlotNotCoveredError):
                look_again(client)
                raise
            if time.monotonic() >= until:
                look_again(client)
                raise refusal
            time.sleep(pause)
            pause = ASK_EVERY_SECONDS

    def _ask_one(self, client: redis.Redis, *command: Any) -> Any:
        """Ask on a socket that no other call is using.

        redis-py's pool counts, for each command, for observers that are not there. That takes
        longer than the command itself.
        """
        pool = client.connection_pool
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = pool.connection_class(**pool.connection_kwargs)
        try:
            if not pool.owns_connection(connection):
                connection.disconnect()  # The sentinels name another master by now.
            connect(connection)
            connection.send_command(*command, check_health=False)
            return connection.read_response()
        except NoScriptError:
            raise
        except BaseException:
            # An answer that comes later must not be taken for that of the next command, and a
            # server that has become a replica must not be asked for ever.
            connection.disconnect()
            raise
        finally:
            self._idle.append(connection)

    @property
    def client(self) -> redis.Redis | RedisCluster:
        # The client of a cluster asks for the cluster's map when it is made. So it is made when
        # first needed, and again if that failed.
        if self._client is None:
            with self._lock:
                self._client = self._client or self._connect()
        return self._client

    def _connect(self) -> redis.Redis | RedisCluster:
        parts = urlsplit(self._url)
        scheme, _, kind = parts.scheme.partition("+")
        if not kind:
            pool = redis.ConnectionPool.from_url(self._url, **self._options)
            return redis.Redis(connection_pool=pool)
        credentials, _, hosts = parts.netloc.rpartition("@")
        # An IPv6 address is written in brackets, and asked for without.
        named = [urlsplit(f"//{host}") for host in hosts.split(",")]
        nodes = [(cast(str, host.hostname), cast(int, host.port)) for host in named]
        service, _, db = parts.path.strip("/").partition("/")
        # All that an address says besides its hosts means what it means for a single server.
        asked = parse_url(f"redis://{credentials}@/{db}?{parts.query}")
        own = {
            name.removeprefix("sentinel_"): asked.pop(name)
            for name in [*asked]
            if name.startswith("sentinel_")
        }
        options = {**self._options, **asked, "ssl": scheme == "rediss"}
        if kind == "cluster":
            return RedisCluster(startup_nodes=[ClusterNode(*node) for node in nodes], **options)
        alike = {
            name: value
            for name, value in options.items()
            if name in SENTINEL_OPTIONS or name.startswith("ssl")
        }
        watchers = Sentinel(nodes, sentinel_kwargs=alike | own)
        return cast(redis.Redis, watchers.master_for(service, **options))


def look_again(client: RedisCluster) -> None:
    """Ask the cluster for its map: another node may be the master by the next call."""
    with suppress(*FAILURES):
        client.nodes_manager.initialize()


def connect(connection: redis.Connection) -> None:
    """Connect, unless the connection is up; again, if the server has hung up meanwhile.

    Whoever restarted it would otherwise cost the next caller of each socket a 503.
    """
    connection.connect()
    try:
        if not connection.can_read():
            return
    except FAILURES:
        pass
    connection.disconnect()
    connection.connect()


class Script:
    """One Lua script, run where its keys live: they share a {tag}, and so a slot."""

    def __init__(self, connection: Connection, source: str) -> None:
        self.connection = connection
        self.source = source
        self._sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own name for it

    def __call__(self, keys: Sequence[str], *args: Any) -> Any:
        """Run it on all the ``keys`` that it touches.

        :raises StoreUnavailable: refused, timed out, or unable to write; outcome unknown
        """
        ask, given = self.connection.ask, (len(keys), *keys, *args)
        try:
            try:
                return ask(keys[0], "EVALSHA", self._sha, *given)
            except NoScriptError:
                # A server that started since has run nothing yet, this call included.
                return ask(keys[0], "EVAL", self.source, *given)
        except FAILURES as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
