"""A cut, consumes and creates at the same time, from several processes."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import dev
from tests.stage.connections import connect
from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("RACE_ROUNDS", "100"))
TOKENS = 16
LUIS = Party("luis", "luis@example.com")
stores: list[TokenStore] = []


def open_own(url: str, secret: bytes) -> None:
    """Open the store of this process."""
    stores.append(TokenStore(connect(url, connections=1), secret=secret))


def outcome(store: TokenStore, text: str) -> str:
    try:
        store.validate(Presented(text), LUIS)
    except errors.TokenRefused as refusal:
        return refusal.code
    return "consumed"


def consume(texts: list[str], at: float) -> list[tuple[float, str]]:
    """When each consume began, by the clock of all processes, and its outcome."""
    time.sleep(max(0, at - time.monotonic()))
    return [(time.monotonic(), outcome(stores[0], text)) for text in texts]


def create(at: float) -> list[tuple[float, str]]:
    """When each create began, and the new token."""
    time.sleep(max(0, at - time.monotonic()))
    return [
        (time.monotonic(), stores[0].create("ana", life_seconds=60).text) for _ in range(TOKENS)
    ]


def cut(at: float) -> float:
    """When the reply had arrived."""
    time.sleep(max(0, at - time.monotonic()))
    stores[0].revoke_all("ana")
    return time.monotonic()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[TokenStore, ProcessPoolExecutor]]:
    with dev.Redis(tmp_path) as server:
        secret = secrets.token_bytes(32)
        store = TokenStore(connect(server.url), secret=secret)
        with ProcessPoolExecutor(
            3, multiprocessing.get_context("spawn"), open_own, (server.url, secret)
        ) as pool:
            yield store, pool


def test_no_older_token_is_consumed_after_a_cut_and_no_newer_one_is_refused(
    processes: tuple[TokenStore, ProcessPoolExecutor],
) -> None:
    """Guard: the cut and the consume are one step each, ordered by the count of the shard."""
    store, pool = processes
    seen: Counter[str] = Counter()
    for number in range(ROUNDS):
        older = [token.text for token in store.create_many("ana", TOKENS, life_seconds=60)]
        # The pool gives each call to a process that is idle; so all three meet.
        at = time.monotonic() + 0.01
        consumes = pool.submit(consume, older, at)
        creates = pool.submit(create, at)
        # In the middle of them in most rounds, and at either end in some.
        replied = pool.submit(cut, at + 0.0005 * (number % 12)).result()
        for began, result in consumes.result():
            assert result in {"consumed", "token_revoked"}
            assert result == "token_revoked" or began < replied
            seen[f"older {result}"] += 1
        for began, text in creates.result():
            result = outcome(store, text)
            assert result in {"consumed", "token_revoked"}
            assert result == "consumed" or began < replied
            seen[f"newer {result}"] += 1
        assert outcome(store, store.create("ana", life_seconds=60).text) == "consumed"
    assert len(seen) == 4, f"one call always came first, and that is no race: {seen}"
