"""A Redis that restarts after a crash with an old snapshot honours no token twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import dev
from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

FENCE = "if record.term ~= term_now then return 'lost' end"
LUIS = Party("luis", "luis@example.com")
TOKENS = 200


@pytest.fixture
def snapshotting(tmp_path: Path) -> Iterator[dev.Redis]:
    """A Redis with its built-in snapshots on."""
    with dev.Redis(tmp_path, settings={"save": "3600 1"}) as server:
        yield server


def consumed_twice(server: dev.Redis, store: TokenStore) -> int:
    """Create, snapshot, consume, crash, restart at once, and present every token again."""
    texts = [store.create("ana", life_seconds=60).text for _ in range(TOKENS)]
    redis.Redis.from_url(server.url).save()
    for text in texts:
        store.validate(Presented(text), LUIS)
    server.kill()
    server.start()
    again = 0
    for text in texts:
        try:
            store.validate(Presented(text), LUIS)
            again += 1
        except errors.TokenLost:
            pass
    return again


def test_no_token_is_consumed_twice_across_a_crash(
    snapshotting: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    assert consumed_twice(snapshotting, open_store(snapshotting.url)) == 0


def test_without_the_fence_every_token_is_consumed_twice(
    snapshotting: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """The same scenario finds the second success, so the test above can fail."""
    store = open_store(snapshotting.url)
    scripts = store._shards._scripts
    fenced = scripts["validate"]
    assert FENCE in fenced.source
    scripts["validate"] = fenced.connection.script(fenced.source.replace(FENCE, ""))
    assert consumed_twice(snapshotting, store) == TOKENS
