"""One, two and four workers of the service: its own kind, and two that gunicorn has."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from benchmarks import turns
from benchmarks.report import spread, table
from benchmarks.servers import Measured, Row, Stage

KINDS = ("ours", "gthread", "gevent")
COUNTS = (1, 2, 4)
#: Installed apart, because the service must not see it.
GEVENT = Path(".venv/gevent")


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their table"""
    kinds = [kind for kind in KINDS if kind != "gevent" or GEVENT.is_dir()]
    if len(kinds) < len(KINDS):
        print("gevent is skipped: it is not installed.")
    servers = [
        server for kind in kinds for count in COUNTS for server in of_kind(stage, kind, count)
    ]
    with stage.running(*servers):
        rows = turns.take_turns(stage, servers, rounds, ("pair", seconds), connections=16)
    cells = []
    for server in servers:
        one = f"{server.label[:-2]} 1"
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


def of_kind(stage: Stage, kind: str, count: int) -> list[Measured]:
    """The service with ``count`` workers; for our own kind also that of the other revision."""
    label, number = f"{kind} {count}", {"web_concurrency": count}
    if kind == "ours":
        return stage.services(label, **number)
    chosen = {"GUNICORN_CMD_ARGS": f"-k {kind}"}
    if kind == "gevent":
        chosen["PYTHONPATH"] = str(GEVENT.absolute())
    return [Measured(stage.directory, stage.environment, label, **number, **chosen)]
