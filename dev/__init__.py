"""Real servers for a machine that has none: for ``make run``, the tests and the benchmarks.

Knows nothing of the service, and needs only the standard library. ``__main__``, which is
``make run``, reads settings as the service does.
"""

from __future__ import annotations

from dev.postgres import Postgres
from dev.redis import Redis, find_redis
from dev.server import CannotStart, Server

__all__ = ["CannotStart", "Postgres", "Redis", "Server", "find_redis"]
