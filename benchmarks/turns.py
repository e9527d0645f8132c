"""Turns: servers are loaded one after the other, so that other work meets all of them alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from benchmarks.servers import Measured, Row, Stage

Server = TypeVar("Server")


def orders(servers: Sequence[Server], rounds: int) -> Iterator[tuple[int, list[Server]]]:
    """The turns from 0, which is a warm-up, and the order of the servers in each.

    Each begins with another server and every other one runs backwards, so that no server always
    follows the same other one.
    """
    for turn in range(rounds + 1):
        start = turn // 2 % len(servers)
        order = [*servers[start:], *servers[:start]]
        yield turn, order[::-1] if turn % 2 else order


def take_turns(
    stage: Stage,
    servers: Sequence[Measured],
    rounds: int,
    *loads: tuple[str, int],
    **options: Any,
) -> list[Row]:
    """Put each of ``loads`` (a kind, and its seconds) on each server, ``rounds`` times.

    Turn 0 is a warm-up and is not reported.
    """
    rows = []
    for turn, order in orders(servers, rounds):
        for server in order:
            for kind, seconds in loads:
                load = server.load(kind, seconds, **options)
                rows.append(stage.measure(turn, server, load))
    return [row for row in rows if row.turn > 0]


def of(rows: Sequence[Row], server: str, kind: str = "pair") -> list[Row]:
    """Rows of one server and kind, in the order of the turns."""
    return [row for row in rows if (row.server, row.kind) == (server, kind)]


def rate(rows: Sequence[Row], server: str, kind: str = "pair") -> float:
    """Units a second, as the median of the turns."""
    return statistics.median(row.rate for row in of(rows, server, kind))


def cpu(row: Row) -> float:
    """CPU seconds of the server for a request."""
    return quotient(row.server_cpu, row.requests)


def ratios(
    rows: Sequence[Row],
    server: str,
    other: str,
    kind: str = "pair",
    of_row: Callable[[Row], float] = lambda row: row.rate,
) -> list[float]:
    """Rates (or what ``of_row`` says) of ``server`` divided by those of ``other``, turn by turn."""
    mine, theirs = ({row.turn: row for row in of(rows, name, kind)} for name in (server, other))
    both = sorted(mine.keys() & theirs.keys())
    return [quotient(of_row(mine[turn]), of_row(theirs[turn])) for turn in both]


def quotient(one: float, other: float) -> float:
    """Infinite where the other one did nothing, as an overloaded server may for a whole load."""
    return one / other if other else math.inf


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
