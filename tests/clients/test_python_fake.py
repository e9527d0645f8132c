"""``FakeTokens`` beyond the contract: its clock, its failures on demand, and races."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from token_service_client import (
    AlreadyUsed,
    AsyncFakeTokens,
    FakeTokens,
    Lost,
    RateLimited,
    Tokens,
    Unavailable,
)

ME = "me@example.com"


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_of_many_threads_one_succeeds() -> None:
    """Guards the lock of the fake: a test of a race must not find two winners."""
    tokens, together = FakeTokens(), threading.Barrier(8)

    def use(token: str) -> int:
        together.wait()
        try:
            tokens.consume(token, purpose="a", issued_by=ME)
        except AlreadyUsed:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        for _ in range(300):
            token = tokens.create(purpose="a").token
            assert sum(pool.map(use, [token] * 8)) == 1


def test_lost_replies_cost_no_token_and_no_time() -> None:
    tokens = FakeTokens()
    tokens.service.lose_replies(3)
    made = tokens.create(purpose="a")
    assert made.replayed
    tokens.service.lose_replies(4)
    with pytest.raises(Unavailable) as raised:
        tokens.consume(made.token, purpose="a", issued_by=ME, idempotency_key="k")
    assert raised.value.outcome_unknown
    assert tokens.consume(made.token, purpose="a", issued_by=ME, idempotency_key="k").replayed


def test_failures_on_demand() -> None:
    tokens = FakeTokens()
    made = tokens.create(purpose="a")
    tokens.service.fail("busy", times=4)
    with pytest.raises(Unavailable) as raised:
        tokens.consume(made.token, purpose="a", issued_by=ME)
    assert not raised.value.outcome_unknown
    tokens.service.fail("rate_limited", retry_after=60)
    with pytest.raises(RateLimited) as limited:
        tokens.consume(made.token, purpose="a", issued_by=ME)
    assert limited.value.retry_after == 60
    tokens.service.restart()
    with pytest.raises(Lost):
        tokens.consume(made.token, purpose="a", issued_by=ME)


def test_both_kinds_share_a_service_and_a_type() -> None:
    tokens: Tokens = FakeTokens.login("http://a.example", email=ME, password="any")
    assert isinstance(tokens, FakeTokens)
    other = AsyncFakeTokens(tokens.service, account=ME)
    made = asyncio.run(other.create(purpose="a"))  # type: ignore[arg-type]
    assert tokens.consume(made.token, purpose="a", issued_by=tokens.account_id).id == made.id
