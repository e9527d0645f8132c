"""The engine alone, on real servers: one, a master under Sentinel, and a cluster."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.stage import topologies
from tests.stage.connections import connect
from tests.stage.topologies import Topology
from tokenservice.onetime.store import TokenStore

#: Servers that stall are not replaced: a test that kills some has servers of its own.
STARTS = {
    "alone": topologies.alone,
    "sentinel": partial(topologies.sentinel, down_after_ms=30_000),
    "cluster": partial(topologies.cluster, timeout_ms=15_000),
}


@pytest.fixture(
    scope="session",
    params=[
        "alone",
        pytest.param("sentinel", marks=pytest.mark.slow),
        pytest.param("cluster", marks=pytest.mark.slow),
    ],
)
def topology(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Topology]:
    with STARTS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
def open_store() -> Callable[..., TokenStore]:
    """Open a store at some URL; the timeouts are long because shared machines stall."""

    def open_one(url: str, **options: Any) -> TokenStore:
        connection = connect(url, connect_ms=2000, read_ms=5000, connections=64)
        defaults = {"secret": secrets.token_bytes(32), "receipt_seconds": 60}
        return TokenStore(connection, **{**defaults, **options})

    return open_one


@pytest.fixture
def store(topology: Topology, open_store: Callable[..., TokenStore]) -> TokenStore:
    """A store on servers that hold nothing yet."""
    topology.clear()
    return open_store(topology.url, shards=topology.shards)
