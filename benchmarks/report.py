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


def spread(values: list[float], digits: int) -> str:
    """Median, smallest and largest."""
    chosen = statistics.median(values), min(values), max(values)
    return "{} ({} to {})".format(*(f"{value:.{digits}f}" for value in chosen))


def table(cells: list[Cell], peer: str, floor: str) -> str:
    """``peer`` beside ``floor``. The ratio of rates is taken within each turn."""

    def rates(server: str, kind: str) -> list[float]:
        return [c.units / c.seconds for c in cells if (c.server, c.kind) == (server, kind)]

    def cpu(server: str, kind: str) -> tuple[float, float]:
        chosen = [cell for cell in cells if (cell.server, cell.kind) == (server, kind)]
        thousands = sum(cell.requests for cell in chosen) / 1000
        return (
            sum(cell.server_cpu for cell in chosen) / thousands,
            sum(cell.redis_cpu for cell in chosen) / thousands,
        )

    heads = f"|{peer}/s|{floor}/s|{peer} / {floor}|CPU {peer}|CPU {floor}|by CPU"
    rows = [heads.split("|")]
    for kind in ("pair", "create", "validate"):
        ours, theirs = rates(peer, kind), rates(floor, kind)
        costs = cpu(peer, kind), cpu(floor, kind)
        rows.append([kind, spread(ours, 0), spread(theirs, 0)])
        rows[-1] += [spread([a / b for a, b in zip(ours, theirs, strict=True)], 3)]
        rows[-1] += [f"{own:.2f} + {redis:.2f}" for own, redis in costs]
        rows[-1] += [f"{costs[1][0] / costs[0][0]:.3f}"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    loads = (floor, "bare"), (peer, "pair"), (floor, "pair")
    bare, asked, least = (statistics.median(rates(*load)) for load in loads)
    return "\n".join(lines) + (
        "\nRates: median (smallest to largest) of the turns. A pair is two requests."
        "\nCPU: seconds per 1000 requests, of server + Redis. By CPU: ratio of the two servers."
        f"\nLoad generator: {bare:.0f} requests/s out of a function that does nothing, "
        f"{bare / asked / 2:.1f} times what the {peer} answers, {bare / least / 2:.1f} the {floor}."
    )


def save(cells: list[Cell], settings: dict[str, Any]) -> None:
    results = {"settings": settings, "cells": [asdict(cell) for cell in cells]}
    SAVED.write_text(json.dumps(results, indent=1) + "\n")
