"""One, two and four workers of the service, of three kinds of gunicorn worker."""

from __future__ import annotations

import os
import statistics

from benchmarks import turns
from benchmarks.report import spread, table
from benchmarks.servers import Measured, Row, Stage

KINDS = ("ours", "gthread", "sync")
COUNTS = (1, 2, 4)


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their table"""
    servers = [
        Measured(
            stage.directory,
            stage.environment,
            f"{kind} {count}",
            web_concurrency=count,
            GUNICORN_CMD_ARGS="" if kind == "ours" else f"-k {kind}",
        )
        for kind in KINDS
        for count in COUNTS
    ]
    with stage.running(*servers):
        rows = turns.take_turns(stage, servers, rounds, ("pair", seconds), connections=16)
    cells = []
    for server in servers:
        one = f"{server.label.split()[0]} 1"
        its = turns.of(rows, server.label)
        cores = [
            (row.server_cpu + row.redis_cpu + row.postgres_cpu + row.wrk_cpu) / row.seconds
            for row in its
        ]
        cells.append(
            [
                server.label,
                spread([row.rate for row in its], 0),
                spread(turns.ratios(rows, server.label, one)),
                f"{turns.cost(rows, server.label)['server_cpu']:.2f}",
                f"{statistics.median(row.p99 for row in its):.1f}",
                f"{statistics.median(cores):.2f} of {os.cpu_count()}",
            ]
        )
    heads = "kind and number|pairs/s|against one|CPU s|p99 ms|cores in use"
    return rows, table("Workers, 16 connections", heads, cells)
