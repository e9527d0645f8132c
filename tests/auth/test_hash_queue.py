"""The queue for hashes: bounded by time, and by nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY

from tests.stage.waiting import until
from tokenservice.auth import passwords
from tokenservice.auth.passwords import QUEUE_SECONDS, Passwords, TooManyWaiting


@pytest.fixture
def queue() -> Passwords:
    """A queue for one core."""
    return Passwords(memory_kib=8, workers=256)


@contextmanager
def occupied(queue: Passwords) -> Iterator[threading.Event]:
    """Something occupies the core until this event is set, or the block ends."""
    begun, let_go = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        let_go.wait(30)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(queue._queued, occupy)
        assert begun.wait(10)
        try:
            yield let_go
        finally:
            let_go.set()


@pytest.fixture
def busy(queue: Passwords) -> Iterator[threading.Event]:
    with occupied(queue) as let_go:
        yield let_go


def refused_after(call: Callable[[], object]) -> tuple[float, int]:
    """The seconds until a refusal, and those of its Retry-After."""
    began = time.monotonic()
    with pytest.raises(TooManyWaiting) as refusal:
        call()
    return time.monotonic() - began, refusal.value.retry_after


def told(name: str) -> float:
    """A metric of this process."""
    return REGISTRY.get_sample_value(f"token_service_{name}") or 0.0


def test_who_would_wait_too_long_is_refused_at_once_and_nobody_else(
    queue: Passwords, busy: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the prediction of ``_queued``. Behind the first, six of 9 s fit into 60 s."""
    monkeypatch.setattr(passwords, "QUEUE_SECONDS", 60)
    queue._usual_seconds = 9.0
    refused: list[int] = []

    def wait(number: int) -> None:
        try:
            queue._queued(lambda: None)
        except TooManyWaiting:
            refused.append(number)

    with ThreadPoolExecutor(20) as threads:
        for number in range(20):
            threads.submit(wait, number)
        until(lambda: len(refused) == 14)  # The core is still taken.
        assert queue._ahead == 7
        busy.set()
    assert len(refused) == 14


def test_a_wait_that_turns_out_longer_ends_at_the_bound(
    queue: Passwords, busy: threading.Event
) -> None:
    """Guard: the timeout of ``_queued``. The queue is as long as before, and goes on."""
    refused = told("hashes_refused_total")
    waited, _ = refused_after(lambda: queue._queued(lambda: None))
    assert QUEUE_SECONDS <= waited < 20
    assert queue._ahead == 1
    assert told("hashes_refused_total") == refused + 1
    busy.set()
    until(lambda: not queue._ahead)
    assert queue._queued(lambda: "hashed") == "hashed"


def test_the_time_that_a_request_has_waited_before_counts(
    queue: Passwords, busy: threading.Event
) -> None:
    waited, _ = refused_after(lambda: queue._queued(lambda: None, waited=QUEUE_SECONDS - 0.2))
    assert waited < QUEUE_SECONDS - 0.1
    waited, _ = refused_after(lambda: queue._queued(lambda: None, waited=QUEUE_SECONDS + 0.1))
    assert waited < QUEUE_SECONDS - 0.1


@pytest.mark.slow
def test_a_hash_that_has_begun_is_waited_for_and_retry_after_is_true(queue: Passwords) -> None:
    """Here one hash alone takes longer than the queue may. Guard: ``_timed``."""
    seconds = QUEUE_SECONDS + 1.2
    queue._queued(lambda: time.sleep(seconds))
    assert queue._usual_seconds >= seconds
    queue._usual_seconds = seconds
    until(lambda: not queue._ahead)
    with occupied(queue):
        waited, retry_after = refused_after(lambda: queue._queued(lambda: None))
        assert waited < QUEUE_SECONDS - 0.1
        assert retry_after == 2
    until(lambda: not queue._ahead)
    assert queue._queued(lambda: "hashed") == "hashed"


def test_one_stalled_hash_refuses_nobody(queue: Passwords) -> None:
    """Guard: the median in ``_timed``, and not the mean."""
    for seconds in (0, 0, 0, 0.5, 0):
        queue._queued(lambda seconds=seconds: time.sleep(seconds))  # type: ignore[misc]
    assert queue._usual_seconds < 0.1


def test_waiting_hashes_are_reported(queue: Passwords, busy: threading.Event) -> None:
    """Guard: ``Passwords._add``. The one at work does not wait."""
    assert told("hashes_waiting") == 0
    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(queue._queued, lambda: None)
        until(lambda: told("hashes_waiting") == 2)
        busy.set()
    until(lambda: told("hashes_waiting") == 0)
