"""The service, another revision of it, its floor and its peers.

Rates, costs, and latency at half of the peak.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks import turns
from benchmarks.report import spread, table
from benchmarks.servers import (
    BetterAuth,
    FastapiSeed,
    FastifyGetdel,
    Floor,
    Measured,
    Row,
    Stage,
)

PEERS = (FastapiSeed, BetterAuth, FastifyGetdel)
SERVICE = Measured.kind
KINDS = ("pair", "create", "validate")
CALM = {"connections": 32}  # enough that requests rarely wait for their turn
HALF, SERVICES_HALF = "half", "at the service's half"


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their tables"""
    servers = [*stage.services(), Floor(stage.directory, stage.environment)]
    for peer in PEERS:
        if peer.is_there():
            servers.append(peer(stage.directory, stage.environment))
        else:
            print(f"{peer.kind} is skipped: its packages are not installed.")
    with stage.running(*servers):
        # Half as long, so that validate never runs out of created tokens.
        loads = ("pair", seconds), ("create", seconds), ("validate", max(1, seconds // 2))
        rows = turns.take_turns(stage, servers, rounds, *loads)
        calm = at_half_of_the_peak(stage, servers, rows, rounds, seconds)
        memory = {server.label: server.memory() for server in servers}
        floor = next(server for server in servers if server.kind == Floor.kind)
        bare = [stage.measure(turn, floor, floor.load("read", 1)) for turn in range(1, 4)]
    return [*rows, *calm, *bare], "\n".join(
        [
            rates(rows, servers),
            costs(rows, memory),
            latencies(calm, servers),
            "\nThe load generator: wrk gets "
            f"{statistics.median(row.rate for row in bare):,.0f} responses a second from the "
            "floor without a call to Redis, and uses "
            f"{statistics.median(row.wrk_cpu / row.seconds for row in bare):.0%} of a core for it.",
        ]
    )


def at_half_of_the_peak(
    stage: Stage, servers: Sequence[Measured], rows: Sequence[Row], rounds: int, seconds: int
) -> list[Row]:
    """Measure each at half of its own peak, and fastapi_seed also at half of the service's."""
    halves = {server: turns.rate(rows, server.label) for server in servers}  # a pair is two
    service = servers[0]
    calm = []
    for turn, order in turns.orders(servers, rounds):
        for server in order:
            load = server.load("pair", seconds, rate=halves[server], **CALM)
            calm.append(named(stage.measure(turn, server, load), HALF))
            if server.kind == FastapiSeed.kind:
                load = server.load("pair", seconds, rate=halves[service], **CALM)
                row = stage.measure(turn, server, load, tolerant=True)
                calm.append(named(row, SERVICES_HALF))
    return [row for row in calm if row.turn > 0]


def named(row: Row, kind: str) -> Row:
    return Row(**{**vars(row), "kind": kind})


def rates(rows: Sequence[Row], servers: Sequence[Measured]) -> str:
    cells = []
    for kind in KINDS:
        for other in (server.label for server in servers):
            theirs = [row.rate for row in turns.of(rows, other, kind)]
            cells.append(
                [
                    kind,
                    other,
                    spread(theirs, 0),
                    spread(turns.ratios(rows, SERVICE, other, kind)),
                    spread(turns.ratios(rows, other, SERVICE, kind, turns.cpu)),
                ]
            )
    title = "Rates, one process each, 8 connections (median, lowest, highest; ratios of one round)"
    return table(title, "kind|server|a second|service / it|by CPU", cells)


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


def latencies(calm: Sequence[Row], servers: Sequence[Measured]) -> str:
    cells = []
    rates = [(server.label, HALF) for server in servers]
    for server, kind in [*rates, (FastapiSeed.kind, SERVICES_HALF)]:
        chosen = turns.of(calm, server, kind)
        if not chosen:
            continue
        # The rate in fact, which an overloaded server keeps below the one asked for.
        asked = statistics.median(row.requests / row.seconds for row in chosen)
        times = (spread([getattr(row, name) for row in chosen]) for name in ("p50", "p99", "p999"))
        paired = spread(turns.ratios(calm, SERVICE, server, kind, p99)) if kind == HALF else ""
        cells.append([server, kind, f"{asked:,.0f}", *times, paired])
    return table(
        "Latency in ms of requests at half of each server's peak, 32 connections",
        "server|rate|requests/s|p50|p99|p99.9|service / it, p99",
        cells,
    )


def p99(row: Row) -> float:
    return row.p99
