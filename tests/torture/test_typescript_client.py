"""Replies lost on the way to the TypeScript client: each call that it repeats succeeds once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.clients.typescript.project import built, called
from tests.clients.typescript.stage import Stage, losing, staged
from tests.stage.service import Service
from tests.torture.ledger import record, trials

AT_ONCE, PURPOSE = 24, "typescript.lost"
#: Each trial has two tokens, and loses a reply to each of two creates, a consume, a reserve and a
#: commit.
TOKENS, LOST = 2, 5
TRIALS = trials(1000 // LOST, least=6)


@pytest.fixture
def stage(serve: Callable[..., Service]) -> Iterator[Stage]:
    with serve(web_concurrency=2, max_active=1_000_000) as service:
        yield staged(service)


def test_a_lost_reply_loses_no_token_and_doubles_none(stage: Stage) -> None:
    """Guard: the idempotency key, which all tries of a call share."""
    project = built()
    with losing(stage.service.port, LOST * TRIALS) as (proxy, marks):
        found = called(project, "lost", "trials", stage.place(proxy.port, marks), PURPOSE, AT_ONCE)
    states = Counter(state for _, state in receipts(stage))
    strays = {token_id for token_id, _ in receipts(stage)} ^ set(found["tokens"])
    expected = TOKENS * TRIALS
    record(
        "A reply to the TypeScript client is dropped, delayed or replaced by a reset: its repeat "
        "is the one success, and the token is then refused as used",
        n=proxy.lost.total(),
        failures=expected - found["successes"] + found["doubles"] + len(strays),
        figures=f"{expected:,} tokens; dropped, delayed, reset: "
        + ", ".join(f"{number:,}" for _, number in sorted(proxy.lost.items())),
    )
    assert found["unused"] == 0
    # On a machine that stalls, a try may end before its reply reaches the proxy.
    assert proxy.lost.total() > LOST * TRIALS * 0.8
    assert (found["successes"], found["refusals"], found["doubles"]) == (expected, expected, 0)
    assert strays == set()
    assert states == {"consumed": expected}


def receipts(stage: Stage) -> Iterator[tuple[str, str]]:
    """The id and the state of each token of the trials."""
    cursor = ""
    with httpx.Client(base_url=stage.service.url, headers=stage.backend.headers) as http:
        while cursor is not None:
            page = http.get("/token", params={"purpose": PURPOSE, "cursor": cursor}).json()
            yield from ((item["id"], item["state"]) for item in page["items"])
            cursor = page["next_cursor"]
