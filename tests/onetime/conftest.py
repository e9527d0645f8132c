"""The engine alone, on a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tokenservice import local
from tokenservice.onetime.connection import connect
from tokenservice.onetime.store import TokenStore


@pytest.fixture(scope="session")
def open_store() -> Callable[..., TokenStore]:
    """Open a store on some Redis; the timeouts are long because shared machines stall."""

    def open_one(server: local.Redis, **options: Any) -> TokenStore:
        client = connect(server.url, connect_ms=2000, read_ms=5000, connections=64)
        return TokenStore(client, **{"receipt_seconds": 60, **options})

    return open_one


@pytest.fixture
def store(redis_server: local.Redis, open_store: Callable[..., TokenStore]) -> TokenStore:
    return open_store(redis_server)
