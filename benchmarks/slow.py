"""A thousand slow clients without a proxy, and the latency of the others beside them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import turns
from benchmarks.compare import CALM, named
from benchmarks.report import spread, table
from benchmarks.servers import Row, Stage
from tests.torture.children import child
from tests.torture.slow_clients import attack

KINDS = ("slow headers", "slow body", "slow reader")
SOCKETS = 1_000
ALONE = "alone"
TIMEOUT_MS = 20_000.0  # of wrk


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their table"""
    [server, *_] = stage.services("slow clients")
    rows: list[Row] = []
    with stage.running(server):
        peak = stage.measure(0, server, server.load("pair", seconds)).rate * 2
        load = server.load("pair", seconds, rate=peak / 2, timely_ms=250, **CALM)
        for turn, kinds in turns.orders(KINDS, rounds):
            rows.append(named(stage.measure(turn, server, load), ALONE))
            for kind in kinds:
                with child(attack, server.port, [kind], SOCKETS) as slow:
                    time.sleep(1)  # until all are connected
                    row = stage.measure(turn, server, load, tolerant=True)
                    slow.end()
                rows.append(named(row, kind))
                server.settle()
    rows = [row for row in rows if row.turn]
    cells = []
    for kind in (ALONE, *KINDS):
        its = turns.of(rows, server.label, kind)
        cells.append(
            [
                kind,
                spread([row.requests / row.seconds for row in its], 0),
                spread([row.p99 for row in its], 1),
                spread(slower(rows, server.label, kind)),
                f"{sum(row.failed for row in its):,}",
            ]
        )
    title = f"Half of the peak beside {SOCKETS:,} slow clients, one worker, no proxy"
    return rows, table(title, "slow clients|requests/s|p99 ms|against alone|failed", cells)


def slower(rows: Sequence[Row], server: str, kind: str) -> list[float]:
    """p99 beside slow clients divided by p99 alone, turn by turn.

    A load that failed in part, or was served in part only, counts as one that waited until wrk
    gave up: the latencies are those of the requests that were served.
    """
    found = []
    pairs = zip(turns.of(rows, server, kind), turns.of(rows, server, ALONE), strict=True)
    for beside, alone in pairs:
        whole = not beside.failed and beside.requests > 0.9 * alone.requests
        found.append(turns.quotient(beside.p99 if whole else TIMEOUT_MS, alone.p99))
    return found
