"""The service, its floor and its peers: rates, costs, and latency at half of the peak."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks import turns
from benchmarks.report import spread, table
from benchmarks.servers import BetterAuth, FastapiSeed, Floor, Measured, Row, Stage

KINDS = ("pair", "create", "validate")
CALM = {"connections": 32}  # enough that requests rarely wait for their turn


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their tables"""
    kinds: list[type[Measured]] = [Measured, Floor, FastapiSeed]
    if BetterAuth.is_there():
        kinds.append(BetterAuth)
    else:
        print("better_auth is skipped: node or its packages are not installed.")
    servers = [kind(stage.directory, stage.environment) for kind in kinds]
    with stage.running(*servers):
        # Half as long, so that validate never runs out of created tokens.
        loads = ("pair", seconds), ("create", seconds), ("validate", max(1, seconds // 2))
        rows = turns.take_turns(stage, servers, rounds, *loads)
        calm = at_half_of_the_peak(stage, servers, rows, rounds, seconds)
        memory = {server.label: server.memory() for server in servers}
        bare = [stage.measure(turn, servers[1], servers[1].load("read", 1)) for turn in range(1, 4)]
    return [*rows, *calm, *bare], "\n".join(
        [
            rates(rows, servers),
            costs(rows, memory),
            latencies(calm),
            "\nThe load generator: wrk gets "
            f"{statistics.median(row.rate for row in bare):,.0f} responses a second from the "
            "floor without a call to Redis, and uses "
            f"{statistics.median(row.wrk_cpu / row.seconds for row in bare):.0%} of a core for it.",
        ]
    )


def at_half_of_the_peak(
    stage: Stage, servers: Sequence[Measured], rows: Sequence[Row], rounds: int, seconds: int
) -> list[Row]:
    """Measure each at half of its own peak, and the first peer also at half of the service's."""
    halves = {server: turns.rate(rows, server.label) for server in servers}  # a pair is two
    service, seed = servers[0], servers[2]
    calm = []
    for turn in range(rounds + 1):
        for server in servers:
            load = server.load("pair", seconds, rate=halves[server], **CALM)
            calm.append(named(stage.measure(turn, server, load), "half"))
        load = seed.load("pair", seconds, rate=halves[service], **CALM)
        calm.append(named(stage.measure(turn, seed, load, tolerant=True), "at the service's half"))
    return [row for row in calm if row.turn > 0]


def named(row: Row, kind: str) -> Row:
    return Row(**{**vars(row), "kind": kind})


def rates(rows: Sequence[Row], servers: Sequence[Measured]) -> str:
    ours = servers[0].label
    cells = []
    for kind in KINDS:
        for other in (server.label for server in servers):
            theirs = [row.rate for row in turns.of(rows, other, kind)]
            mine, its = (turns.cost(rows, name, kind) for name in (ours, other))
            by_cpu = its["server_cpu"] / mine["server_cpu"]
            ratio = spread(turns.ratios(rows, ours, other, kind))
            cells.append([kind, other, spread(theirs, 0), ratio, f"{by_cpu:.2f}"])
    heads = "kind|server|a second|service / it|by CPU"
    return table("Rates, one process each, 8 connections (median, lowest, highest)", heads, cells)


def costs(rows: Sequence[Row], memory: dict[str, float]) -> str:
    cells = []
    for server, megabytes in memory.items():
        its = turns.cost(rows, server)
        cpu = (f"{its[name]:.2f}" for name in ("server_cpu", "redis_cpu", "postgres_cpu"))
        redis = f"{its['redis_commands'] / 1000:.1f}", f"{its['redis_bytes'] / 1000:,.0f}"
        cells.append([server, *cpu, *redis, f"{megabytes:.0f}"])
    heads = "server|CPU s|of Redis|of Postgres|Redis commands|Redis bytes|MB"
    return table(
        "Cost: CPU seconds of 1,000 requests of pairs; Redis commands (those inside scripts "
        "too) and bytes of one request; resident memory of the largest process",
        heads,
        cells,
    )


def latencies(calm: Sequence[Row]) -> str:
    cells = []
    for server, kind in dict.fromkeys((row.server, row.kind) for row in calm):
        chosen = turns.of(calm, server, kind)
        # The rate in fact, which an overloaded server keeps below the one asked for.
        asked = statistics.median(row.requests / row.seconds for row in chosen)
        times = (spread([getattr(row, name) for row in chosen]) for name in ("p50", "p99", "p999"))
        cells.append([server, kind, f"{asked:,.0f}", *times])
    return table(
        "Latency in ms of requests at half of each server's peak, 32 connections",
        "server|rate|requests/s|p50|p99|p99.9",
        cells,
    )
