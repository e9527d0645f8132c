"""Connections of the engine to a Redis address."""

from __future__ import annotations

from settings.addresses import redis_servers
from tokenservice.onetime.connection import Connection


def connect(
    url: str, *, connect_ms: int = 2000, read_ms: int = 5000, connections: int = 8
) -> Connection:
    return Connection(
        **redis_servers(url), connect_ms=connect_ms, read_ms=read_ms, connections=connections
    )
