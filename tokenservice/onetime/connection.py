"""One way to reach Redis: short timeouts, and nothing is ever sent twice.

redis-py 8 repeats a command up to ten times by itself. A consume whose first reply was lost
would then be answered "already used" to the very caller who consumed it, so repeating is
left to the caller, who has the idempotency key.
"""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def connect(url: str, *, connect_ms: int, read_ms: int, connections: int) -> redis.Redis:
    """Make a client for ``url``; no socket is opened before its first command.

    :param connect_ms: how long to wait for a connection, in milliseconds
    :param read_ms: how long to wait for an answer, in milliseconds
    :param connections: how many callers of this process may talk to Redis at once
    """
    pool = redis.ConnectionPool.from_url(
        url,
        protocol=2,
        driver_info=None,
        socket_connect_timeout=connect_ms / 1000,
        socket_timeout=read_ms / 1000,
        max_connections=connections,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
    )
    return redis.Redis(connection_pool=pool)
