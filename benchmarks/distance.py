"""Pairs a second with a Redis that is 1, 5 and 50 ms away, beside the other revision."""

from __future__ import annotations

import statistics
import time

from benchmarks import turns
from benchmarks.compare import CALM, SERVICE, named
from benchmarks.report import spread, table
from benchmarks.servers import Row, Stage
from tests.stage.proxy import Proxy

MS = (1, 5, 50)


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their table"""
    rows: list[Row] = []
    relayed: dict[str, list[float]] = {away(ms): [] for ms in MS}
    servers = stage.services()
    with Proxy(stage.redis.port) as proxy:
        for server in servers:
            near = server.environment["redis_url"]
            far = near.replace(f":{stage.redis.port}/", f":{proxy.port}/")
            server.environment |= {"redis_url": far}
        with stage.running(*servers):
            for ms in MS:
                proxy.slow(ms / 1000)
                for turn, order in turns.orders(servers, rounds):
                    for server in order:
                        load = server.load("pair", seconds, **CALM)
                        used = time.process_time()
                        rows.append(named(stage.measure(turn, server, load), away(ms)))
                        relayed[away(ms)].append((time.process_time() - used) / seconds)
            proxy.mend()
    rows = [row for row in rows if row.turn]
    cells = []
    for ms in MS:
        for server in servers:
            its = turns.of(rows, server.label, away(ms))
            paired = turns.ratios(rows, SERVICE, server.label, away(ms))
            cells.append(
                [
                    away(ms),
                    server.label,
                    spread([row.rate for row in its], 0),
                    spread([row.p99 for row in its], 1),
                    spread(paired),
                    f"{statistics.median(relayed[away(ms)]):.0%} of a core",
                ]
            )
    heads = "Redis|server|pairs/s|p99 ms|service / it|the proxy"
    return rows, table("Redis far away, one worker, 32 connections", heads, cells)


def away(ms: int) -> str:
    return f"{ms} ms away"
