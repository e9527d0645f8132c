"""The metrics that are read at a scrape: the build, readiness, Redis and the tokens in it."""

from __future__ import annotations

import hashlib
import math
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from config import VERSION
from tokenservice.extensions import part, tokens
from tokenservice.onetime.census import Count
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.onetime.scripts import SCRIPTS
from tokenservice.ops.probes import RIGHT, SERVING, judged, readiness

#: The age up to which a census is reported without a new one.
COUNT_AGAIN_SECONDS = 1.0
#: A name for the scripts: instances with the same one judge a token alike.
ENGINE = hashlib.sha256("".join(SCRIPTS.values()).encode()).hexdigest()[:8]
BUILD = {"version": VERSION, "python": platform.python_version(), "engine": ENGINE}


class Gauges:
    """The collector of an app."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._counted_at = -math.inf
        self._counts: list[Count] = []

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("token_service_build", "Versions of the service", BUILD)
        checks, is_ready = judged()
        yield GaugeMetricFamily("token_service_ready", "Whether /readyz is 200", is_ready)
        parts = gauge("part_ready", "Whether a part is as it should be", "part")
        for name, state in checks.items():
            parts.add_metric([name], state in RIGHT)
        yield parts
        if checks.get("redis") in SERVING:
            yield from memory(readiness.masters)
            yield from self._census()

    def _census(self) -> Iterable[Metric]:
        """The tokens of each shard; nothing where Redis does not tell."""
        with self._counting:
            if time.monotonic() > self._counted_at + COUNT_AGAIN_SECONDS:
                try:
                    self._counts = tokens.census()
                except StoreUnavailable:
                    self._counts = []
                self._counted_at = time.monotonic()
            counts = self._counts
        for name, said, field in (
            ("tokens_outstanding", "Tokens that count under max_active", "outstanding"),
            ("tokens_reserved", "Tokens that a reservation holds", "reserved"),
            ("redis_mastership", "Another number after each change of mastership", "mastership"),
        ):
            family = gauge(name, said, "shard")
            for count in counts:
                family.add_metric([str(count.shard)], getattr(count, field))
            yield family


gauges = part(Gauges)


def memory(masters: Iterable[dict[str, Any]]) -> Iterator[Metric]:
    """The memory of each master; nothing of one that does not tell."""
    told = sorted(masters, key=lambda info: str(info.get("run_id")))
    for name, said, field in (
        ("redis_memory_used_bytes", "Memory in use by a master", "used_memory"),
        ("redis_memory_max_bytes", "Its maxmemory; 0 where it has none", "maxmemory"),
    ):
        family = gauge(name, said, "master")
        for number, info in enumerate(told):
            if isinstance(value := info.get(field), int):
                family.add_metric([str(number)], value)
        yield family


def gauge(name: str, said: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"token_service_{name}", said, labels=[label])
