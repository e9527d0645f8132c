"""Rows of loads, as the benchmark has them."""

from __future__ import annotations

from typing import Any

from benchmarks.servers import Row


def row(turn: int, server: str, kind: str = "pair", rate: float = 100.0, **values: Any) -> Row:
    """A load of one second."""
    load = {
        "units": rate,
        "requests": round(2 * rate),
        "seconds": 1.0,
        **dict.fromkeys(("p50", "p99", "p999"), 1.0),
        **dict.fromkeys(("server_cpu", "redis_cpu", "postgres_cpu", "wrk_cpu"), 0.1),
        **dict.fromkeys(("redis_commands", "redis_bytes"), 100),
    }
    return Row(turn, server, kind, **(load | values))
