"""The duration of outages, recorded and asserted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from tests.stage.waiting import until
from tests.torture.deployments import Deployment
from tests.torture.ledger import FULL, record

#: The bound of an outage at p95, in seconds.
BOUND = 5.0


class Outage:
    """An outage that begins with this object."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stalls = deployment.stalls()
        self._began = time.monotonic()

    def lasts_until(self, serves: Callable[[], bool]) -> None:
        until(serves, seconds=90)
        self.seconds = time.monotonic() - self._began
        #: Whether a sentinel had been stalled, and so suspended failovers for 30 s.
        self.stalled = self._deployment.stalls() > self._stalls


def check_recovery(what: str, outages: Sequence[Outage]) -> None:
    """Record and assert the durations; also without the outages in which a sentinel stalled."""
    seconds = [outage.seconds for outage in outages]
    calm = [outage.seconds for outage in outages if not outage.stalled]
    figures = spread(seconds)
    if len(calm) < len(seconds):
        figures += f"; of the {len(calm)} without a stalled sentinel: {spread(calm or [0])}"
    late = sum(outage > BOUND for outage in seconds)
    record(
        f"{what}: the service recovers within 5 s", n=len(seconds), failures=late, figures=figures
    )
    if FULL:
        assert p95(calm) <= BOUND
    # The margin is for a busy machine: a vote without a winner is repeated after 10 s.
    assert not calm or min(calm) < 4 * BOUND


def p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) * 95 // 100]


def spread(seconds: Sequence[float]) -> str:
    middle = statistics.median(seconds)
    return f"median {middle:.1f} s, p95 {p95(seconds):.1f} s, longest {max(seconds):.1f} s"
