"""What was measured, as a table for people and as a file for programs."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SAVED = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Cell:
    """One kind of load on one server, in one turn. CPU is in seconds."""

    turn: int
    server: str
    kind: str
    units: int
    requests: int
    seconds: float
    server_cpu: float
    redis_cpu: float
    postgres_cpu: float


def spread(values: list[float], digits: int) -> str:
    """Median, smallest and largest."""
    chosen = statistics.median(values), min(values), max(values)
    return "{} ({} to {})".format(*(f"{value:.{digits}f}" for value in chosen))


def table(cells: list[Cell], ours: str, others: list[str], floor: str) -> str:
    """``ours`` beside each of ``others``. The ratio of rates is taken within each turn."""

    def rates(server: str, kind: str) -> list[float]:
        return [c.units / c.seconds for c in cells if (c.server, c.kind) == (server, kind)]

    def cpu(server: str, kind: str) -> list[float]:
        chosen = [cell for cell in cells if (cell.server, cell.kind) == (server, kind)]
        thousands = sum(cell.requests for cell in chosen) / 1000
        used = zip(*((c.server_cpu, c.redis_cpu, c.postgres_cpu) for c in chosen), strict=True)
        return [sum(seconds) / thousands for seconds in used]

    tables = []
    for other in others:
        heads = f"|{ours}/s|{other}/s|{ours} / {other}|CPU {ours}|CPU {other}|by CPU|by all CPU"
        rows = [heads.split("|")]
        for kind in ("pair", "create", "validate"):
            mine, theirs = rates(ours, kind), rates(other, kind)
            ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
            costs = cpu(ours, kind), cpu(other, kind)
            rows.append([kind, spread(mine, 0), spread(theirs, 0), spread(ratios, 2)])
            rows[-1] += [" + ".join(f"{seconds:.2f}" for seconds in cost) for cost in costs]
            rows[-1] += [f"{costs[1][0] / costs[0][0]:.2f}", f"{sum(costs[1]) / sum(costs[0]):.2f}"]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        tables.append("\n".join("  ".join(map(str.rjust, row, widths)) for row in rows))
    bare = statistics.median(rates(floor, "bare"))
    room = (
        f"{bare / statistics.median(rates(server, 'pair')) / 2:.1f} times the {server}"
        for server in (ours, *others)
    )
    return "\n\n".join(tables) + (
        "\n\nRates: median (smallest to largest) of the turns. A pair is two requests."
        "\nCPU: seconds per 1000 requests, of server + Redis + Postgres."
        "\nBy CPU: what the other's server takes for a request, in parts of ours; by all CPU:"
        " with Redis and Postgres."
        f"\nLoad generator: {bare:.0f} requests/s out of a function that does nothing: "
        f"{', '.join(room)}."
    )


def save(cells: list[Cell], settings: dict[str, Any]) -> None:
    results = {"settings": settings, "cells": [asdict(cell) for cell in cells]}
    SAVED.write_text(json.dumps(results, indent=1) + "\n")
