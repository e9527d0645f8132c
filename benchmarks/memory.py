"""Resident memory of a worker, at its start and after many requests."""

from __future__ import annotations

from benchmarks.report import table
from benchmarks.servers import Measured, Row, Stage

REQUESTS = 200_000


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their table"""
    server = Measured(stage.directory, stage.environment, "memory")
    rows: list[Row] = []
    with stage.running(server):
        seen = [(0, server.memory())]
        while seen[-1][0] < REQUESTS * min(1.0, rounds / 5):
            rows.append(stage.measure(len(rows) + 1, server, server.load("pair", 10 * seconds)))
            seen.append((seen[-1][0] + rows[-1].requests, server.memory()))
    shown = [seen[0], *seen[1 :: max(1, len(seen) // 6)], seen[-1]]
    cells = [[f"{requests:,}", f"{megabytes:.1f}"] for requests, megabytes in dict(shown).items()]
    return rows, table("Resident memory of a worker", "after requests|MB", cells)
