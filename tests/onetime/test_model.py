"""Long random histories: the engine agrees with the reference, and honours no token twice.

Hypothesis drives the store, on a Redis that also crashes and comes back with an old snapshot,
against tests/onetime/reference.py. ``MODEL_EXAMPLES=5000`` looks further than CI does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import dev
from tests.onetime.history import OPTIONS, SHARDS, STEPS, History
from tests.stage.connections import connect
from tokenservice.onetime.store import TokenStore

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "150"))


@pytest.fixture
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    """A Redis that takes no snapshot by itself, and that no other test uses."""
    with dev.Redis(tmp_path_factory.mktemp("crashing")) as server:
        yield server


@pytest.mark.timeout(600 + EXAMPLES)
def test_the_engine_agrees_with_the_reference(crashing: dev.Redis) -> None:
    """Guards: nearly every line of the scripts; the fence, the verifier, the lease, the nonce."""
    connection = connect(crashing.url, connect_ms=2000, read_ms=5000, connections=1)
    stores = {
        shards: TokenStore(connection, secret=os.urandom(32), shards=shards, **OPTIONS)
        for shards in SHARDS
    }
    run_state_machine_as_test(
        lambda: History(crashing, stores, connection.client),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
