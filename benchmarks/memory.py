"""Memory: of a worker over many requests, and of two workers with their master."""

from __future__ import annotations

from benchmarks import turns
from benchmarks.report import spread, table
from benchmarks.servers import Figure, Row, Stage, proportional

REQUESTS = 200_000
OF_ALL = "MB of two workers and their master"


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row | Figure], str]:
    """:returns: the rows, and their tables"""
    rows, grown = growth(stage, rounds, seconds)
    figures, whole = of_all(stage, rounds, seconds)
    return [*rows, *figures], f"{grown}\n{whole}"


def growth(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    [server, *_] = stage.services("memory")
    rows: list[Row] = []
    with stage.running(server):
        seen = [(0, server.memory())]
        while seen[-1][0] < REQUESTS * min(1.0, rounds / 5):
            rows.append(stage.measure(len(rows) + 1, server, server.load("pair", 10 * seconds)))
            seen.append((seen[-1][0] + rows[-1].requests, server.memory()))
    shown = [seen[0], *seen[1 :: max(1, len(seen) // 6)], seen[-1]]
    cells = [[f"{requests:,}", f"{megabytes:.1f}"] for requests, megabytes in dict(shown).items()]
    return rows, table("Resident memory of a worker", "after requests|MB", cells)


def of_all(stage: Stage, rounds: int, seconds: int) -> tuple[list[Figure], str]:
    """Measure two workers and their master under load, each shared page counted once (PSS)."""
    servers = stage.services("two workers", web_concurrency=2)
    figures = []
    with stage.running(*servers):
        for turn, order in turns.orders(servers, rounds):
            for server in order:
                stage.measure(turn, server, server.load("pair", seconds))
                figures.append(Figure(turn, server.label, OF_ALL, proportional(server)))
    figures = [figure for figure in figures if figure.turn]
    cells = []
    for server in servers:
        its = [figure.value for figure in figures if figure.server == server.label]
        cells.append([server.label, spread(its, 1)])
    return figures, table("Memory of all processes (PSS)", f"server|{OF_ALL}", cells)
