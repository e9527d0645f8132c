"""The queue for hashes: bounded by time, and by nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from tests.stage.waiting import until
from tokenservice.auth.passwords import QUEUE_SECONDS, Passwords, TooManyWaiting


@pytest.fixture
def queue() -> Passwords:
    """A queue for one core."""
    return Passwords(memory_kib=8, workers=256)


@pytest.fixture
def busy(queue: Passwords) -> Iterator[threading.Event]:
    """Something occupies the core until this event is set."""
    begun, let_go = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        let_go.wait(30)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(queue._queued, occupy)
        assert begun.wait(10)
        yield let_go
        let_go.set()


def refused_after(call: Callable[[], object]) -> tuple[float, int]:
    """The seconds until a refusal, and those of its Retry-After."""
    began = time.monotonic()
    with pytest.raises(TooManyWaiting) as refusal:
        call()
    return time.monotonic() - began, refusal.value.retry_after


def told(name: str) -> float:
    """A metric of this process."""
    return REGISTRY.get_sample_value(f"token_service_{name}") or 0.0


@pytest.mark.slow
def test_who_would_wait_too_long_is_refused_at_once_and_nobody_else(queue: Passwords) -> None:
    """Guard: the prediction of ``_queued``. Behind one of 0.3 s, six fit into 2 s."""
    queue._queued(lambda: time.sleep(0.3))  # It is measured.

    def wait(_: int) -> float | None:
        began = time.monotonic()
        try:
            queue._queued(lambda: time.sleep(0.3))
        except TooManyWaiting:
            return time.monotonic() - began
        return None

    with ThreadPoolExecutor(20) as threads:
        refused = [seconds for seconds in threads.map(wait, range(20)) if seconds is not None]
    assert 11 <= len(refused) <= 13
    assert max(refused) < 0.5


def test_a_wait_that_turns_out_longer_ends_at_the_bound(
    queue: Passwords, busy: threading.Event
) -> None:
    """Guard: the timeout of ``_queued``. The queue is as long as before, and goes on."""
    refused = told("hashes_refused_total")
    waited, _ = refused_after(lambda: queue._queued(lambda: None))
    assert QUEUE_SECONDS <= waited < QUEUE_SECONDS + 1
    assert queue._ahead == 1
    assert told("hashes_refused_total") == refused + 1
    busy.set()
    assert queue._queued(lambda: "hashed") == "hashed"


def test_the_time_that_a_request_has_waited_before_counts(
    queue: Passwords, busy: threading.Event
) -> None:
    waited, _ = refused_after(lambda: queue._queued(lambda: None, waited=QUEUE_SECONDS - 0.2))
    assert waited < 1
    waited, _ = refused_after(lambda: queue._queued(lambda: None, waited=QUEUE_SECONDS + 0.1))
    assert waited < 0.1


@pytest.mark.slow
def test_a_hash_that_has_begun_is_waited_for_and_retry_after_is_true(queue: Passwords) -> None:
    """Here one hash alone takes longer than the queue may."""
    seconds = QUEUE_SECONDS + 1.2
    queue._queued(lambda: time.sleep(seconds))
    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(queue._queued, lambda: time.sleep(seconds))
        while not queue._ahead:
            time.sleep(0.01)
        waited, retry_after = refused_after(lambda: queue._queued(lambda: None))
        assert waited < 0.1
        assert retry_after == 2
        working.result(10)
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
