"""Turns: servers are loaded one after the other, so that other work meets all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.servers import Measured, Row, Stage


def take_turns(
    stage: Stage,
    servers: Sequence[Measured],
    rounds: int,
    *loads: tuple[str, int],
    **options: Any,
) -> list[Row]:
    """Put each of ``loads`` (a kind, and its seconds) on each server, ``rounds`` times.

    Turn 0 is a warm-up and is not reported. The order changes, so that no server always follows
    the same other one.
    """
    rows = []
    order = list(servers)
    for turn in range(rounds + 1):
        for server in order:
            for kind, seconds in loads:
                load = server.load(kind, seconds, **options)
                rows.append(stage.measure(turn, server, load))
        order.append(order.pop(0))
    return [row for row in rows if row.turn > 0]


def of(rows: Sequence[Row], server: str, kind: str = "pair") -> list[Row]:
    """Rows of one server and kind, in the order of the turns."""
    return [row for row in rows if (row.server, row.kind) == (server, kind)]


def rate(rows: Sequence[Row], server: str, kind: str = "pair") -> float:
    """Units a second, as the median of the turns."""
    return statistics.median(row.rate for row in of(rows, server, kind))


def ratios(rows: Sequence[Row], server: str, other: str, kind: str = "pair") -> list[float]:
    """Rates of ``server`` divided by those of ``other``, turn by turn."""
    mine, theirs = of(rows, server, kind), of(rows, other, kind)
    return [a.rate / b.rate for a, b in zip(mine, theirs, strict=True)]


def cost(rows: Sequence[Row], server: str, kind: str = "pair") -> dict[str, float]:
    """CPU seconds of each process, Redis commands and bytes of 1,000 requests."""
    chosen = of(rows, server, kind)
    thousands = sum(row.requests for row in chosen) / 1000
    return {
        name: sum(getattr(row, name) for row in chosen) / thousands
        for name in (
            *("server_cpu", "redis_cpu", "postgres_cpu", "wrk_cpu"),
            *("redis_commands", "redis_bytes"),
        )
    }
