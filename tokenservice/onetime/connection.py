"""Connections to Redis, alone, under Sentinel or as a cluster: scripts, and INFO.

Timeouts are short, and a command that may have run is never sent twice. redis-py 8 repeats a
command up to ten times by itself: a consume after a lost reply would then be "already used" to the
very caller that consumed the token. The caller repeats, with its idempotency key. Only a command
that Redis did not run, because its slot is elsewhere or migrates, is repeated here for a while.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, cast

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
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
from tokenservice.onetime.nearness import Nearness

SENTINEL_OPTIONS = (
    *("socket_connect_timeout", "socket_timeout", "retry"),
    *("socket_keepalive", "socket_keepalive_options"),
)
#: redis-py raises an IndexError where no node of a cluster serves a slot.
FAILURES = (redis.RedisError, RedisClusterException, OSError, IndexError)
#: The longest wait of a call for a migrating slot, and the pause between its attempts.
MOVING_SECONDS, ASK_EVERY_SECONDS = 0.5, 0.02
#: Redis ran nothing. An ASK is not followed: it leads to a server that only imports the slot, whose
#: term is fresh only once the slot has arrived (docs/engine.md, "Slot migration").
MOVING = (AskError, TryAgainError, ClusterDownError)
#: A middlebox forgets a connection without traffic, and then drops whatever it sends: a command
#: would cost a 503. So idle connections have some traffic, and are renewed after this time.
RENEW_SECONDS = 30.0
KEEP_ALIVE = {
    getattr(socket, name): seconds
    for name, seconds in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


class Connection:
    """One Redis, alone, under Sentinel or as a cluster. No socket opens before the first command.

    :param options: the arguments of redis-py for a server, as its ``parse_url`` returns them
    :param nodes: host and port of each sentinel, or of some nodes of a cluster
    :param service: the name under which the sentinels know the server; "" for a cluster
    :param sentinel_options: the arguments of redis-py for the sentinels themselves
    :param connect_ms: the time limit of a connection, in milliseconds
    :param read_ms: the time limit of a reply, in milliseconds
    :param connections: the threads of this process; each may have one connection at a time

    The resolver has its own timeouts for the name of a host.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        nodes: Sequence[tuple[str, int]] = (),
        service: str = "",
        sentinel_options: Mapping[str, Any] = MappingProxyType({}),
        connect_ms: int,
        read_ms: int,
        connections: int,
    ) -> None:
        self._nodes, self._service, self._sentinel_options = nodes, service, sentinel_options
        self._options: dict[str, Any] = {
            "protocol": 2,
            "driver_info": None,
            "socket_connect_timeout": connect_ms / 1000,
            "socket_timeout": read_ms / 1000,
            "max_connections": connections,
            "retry": Retry(NoBackoff(), 0),
            **options,
        }
        if "path" not in options:  # of a socket of Unix
            self._options = {"socket_keepalive": True, **self._options}
            self._options["socket_keepalive_options"] = KEEP_ALIVE
        self._sentinels: Sequence[redis.Redis] = ()
        self._client: redis.Redis | RedisCluster | None = None
        self._lock = threading.Lock()
        self.nearness = Nearness()
        # The idle connections to each server, and the time of their last use.
        self._idle: weakref.WeakKeyDictionary[
            redis.ConnectionPool, deque[tuple[redis.Connection, float]]
        ] = weakref.WeakKeyDictionary()
        # Two processes on one socket would read each other's replies.
        os.register_at_fork(after_in_child=self._idle.clear)

    def script(self, source: str) -> Script:
        return Script(self, source)

    @property
    def is_near(self) -> bool:
        """Whether an answer is sure to be quick. In a cluster a call may wait for its slot."""
        return self.nearness.is_near and (bool(self._service) or not self._nodes)

    def info(self) -> list[dict[str, Any]]:
        """INFO of each master.

        :raises StoreUnavailable: one of them does not respond
        """
        try:
            client = self.client
            if isinstance(client, RedisCluster):
                masters = [client.get_redis_connection(node) for node in client.get_primaries()]
            else:
                masters = [client]
            return [info_of(master, self._ask_one(master, "INFO")) for master in masters]
        except FAILURES as error:
            raise StoreUnavailable(f"info: {type(error).__name__}") from error

    def one_of_each_master(self, keys: Sequence[str]) -> list[str]:
        """Choose one of ``keys`` for each master that has some.

        :raises StoreUnavailable: no node has the map of the cluster
        """
        try:
            client = self.client
            if not isinstance(client, RedisCluster):
                return list(keys[:1])
            return list({client.get_node_from_key(key).name: key for key in keys}.values())
        except FAILURES as error:
            raise StoreUnavailable(f"cluster: {type(error).__name__}") from error

    def ask(self, key: str, *command: Any) -> Any:
        """Send one command about ``key`` to its server, and read the reply."""
        client = self.client
        if isinstance(client, RedisCluster):
            return self._ask_cluster(client, key, *command)
        return self._ask_one(client, *command)

    def _ask_cluster(self, client: RedisCluster, key: str, *command: Any) -> Any:
        """Ask the owner of the slot, and repeat a command that Redis did not run.

        Not by ``client.execute_command``, which follows an ASK.
        """
        until, pause = time.monotonic() + MOVING_SECONDS, 0.0
        while True:
            try:
                node = client.get_redis_connection(client.get_node_from_key(key))
                return self._ask_one(node, *command)
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
        """Ask on an idle socket.

        Not through redis-py's pool: it counts each command for observers, which takes longer than
        the command itself.
        """
        pool = client.connection_pool
        idle = self._idle.setdefault(pool, deque())
        try:
            connection, used_at = idle.pop()
        except IndexError:
            connection = pool.connection_class(**pool.connection_kwargs)
            used_at = math.inf
        try:
            if time.monotonic() - used_at > RENEW_SECONDS:
                connection.disconnect()
            if not pool.owns_connection(connection):
                connection.disconnect()  # The sentinels name another master.
            self._open(connection)
            # Not send_command, which looks at each argument once more: 2.9 µs of 215 a request.
            connection.send_packed_command([hiredis.pack_command(command)], check_health=False)
            return connection.read_response()
        except (NoScriptError, *MOVING):
            raise
        except BaseException as error:
            # A late reply must not be taken for that of the next command, and a server that became
            # a replica must not be asked for ever.
            if not is_full(error):
                connection.disconnect()
            raise
        finally:
            idle.append((connection, time.monotonic()))

    def _open(self, connection: redis.Connection) -> None:
        """Connect, unless the connection is up; again, if the server has closed it meanwhile.

        Otherwise a restart would cost the next caller of each socket a 503.
        """
        if connection.is_connected:
            with suppress(*FAILURES):
                if not connection.can_read():
                    return
            connection.disconnect()
        for sentinel in self._sentinels:
            sentinel.connection_pool.disconnect(inuse_connections=False)
        connection.connect()

    @property
    def client(self) -> redis.Redis | RedisCluster:
        # A cluster client asks for the cluster's map when it is built. So it is built at the first
        # need, and again if that failed.
        if self._client is None:
            with self._lock:
                self._client = self._client or self._connect()
        return self._client

    def _connect(self) -> redis.Redis | RedisCluster:
        if not self._nodes:
            return redis.Redis(connection_pool=redis.ConnectionPool(**self._options))
        options = {"ssl": False, **self._options}
        if options.pop("connection_class", None):
            options["ssl"] = True
        if not self._service:
            nodes = [ClusterNode(*node) for node in self._nodes]
            return RedisCluster(startup_nodes=nodes, **options)
        alike = {
            name: value
            for name, value in options.items()
            if name in SENTINEL_OPTIONS or name.startswith("ssl")
        }
        sentinels = Sentinel(self._nodes, sentinel_kwargs=alike | dict(self._sentinel_options))
        self._sentinels = sentinels.sentinels
        return cast(redis.Redis, sentinels.master_for(self._service, **options))


def is_full(error: BaseException) -> bool:
    """Whether a server that is well refused a write, for want of memory."""
    # Up to Redis 6.2 the error of the script hides the code.
    return isinstance(error, redis.OutOfMemoryError) or (
        isinstance(error, redis.ResponseError) and "-OOM " in str(error)
    )


def info_of(server: redis.Redis, reply: Any) -> dict[str, Any]:
    """Parse the reply to INFO; some servers have few fields or none."""
    if not isinstance(reply, bytes):
        raise redis.ResponseError("The reply to INFO is no text.")
    return dict(server.response_callbacks["INFO"](reply))


def look_again(client: RedisCluster) -> None:
    """Ask the cluster for its map: another node may be the master by now."""
    with suppress(*FAILURES):
        client.nodes_manager.initialize()


class Script:
    """One Lua script, run on the server of its keys, which share a {tag} and so a slot."""

    def __init__(self, connection: Connection, source: str) -> None:
        self.connection = connection
        self.source = source
        self._sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own name for it

    def __call__(self, keys: Sequence[str], *args: Any) -> Any:
        """Run it on ``keys``, which are all that it touches.

        :raises StoreUnavailable: refused, timed out, or unable to write; the outcome is unknown
        """
        ask, given = self.connection.ask, (len(keys), *keys, *args)
        nearness, started = self.connection.nearness, time.perf_counter()
        try:
            try:
                reply = ask(keys[0], "EVALSHA", self._sha, *given)
            except NoScriptError:
                # A server that started since ran nothing, this call included.
                reply = ask(keys[0], "EVAL", self.source, *given)
        except FAILURES as error:
            if is_full(error):
                nearness.note(time.perf_counter() - started)
            else:
                nearness.lose()
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
        nearness.note(time.perf_counter() - started)
        return reply
