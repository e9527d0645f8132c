"""Much at once: logins, ten thousand callers in turn, and more calls than the service can serve."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence

import redis

from benchmarks import people, turns
from benchmarks.compare import named
from benchmarks.database import execute
from benchmarks.report import spread, table
from benchmarks.servers import Burst, Figure, Measured, Row, Stage

#: Logins at once: how many, of how many accounts, from how many addresses.
LOGINS = {
    "8 of one account": (8, 1, 1),
    "8": (8, 8, 1),
    "40": (40, 40, 1),
    "200": (200, 200, 1),
    "200 from as many addresses": (200, 200, 200),
}
LOGIN_SECONDS = 60  # the longest wait for one response
CALLERS = 10_000
ONE, MANY = "one caller", f"{CALLERS:,} callers"
QUERIES = "Postgres transactions a second"
TIMES = (1, 2, 3)
TIMELY_MS = 250
PEAK_CONNECTIONS = 32
#: For each time the capacity: enough that the queue could grow beyond the time that is timely.
CONNECTIONS = 250
#: The settings of the run that are not the service's own: everything else is at its default.
ADDRESSES = ("PATH", "database_url", "redis_url", "secret_key")
BUSY_GENERATOR = 0.8

Kept = Row | Burst | Figure


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Kept], str]:
    """:returns: the rows, and their tables"""
    rows: list[Kept] = []
    told = []
    for part in (logins, callers, overload):
        its, text = part(stage, rounds, seconds)
        rows += its
        told.append(text)
    return rows, "\n".join(told)


def logins(stage: Stage, rounds: int, _: int) -> tuple[Sequence[Kept], str]:
    """Right passwords at once, with the settings that nobody changed."""
    servers = stage.services("at login")
    for server in servers:
        server.environment = {name: server.environment[name] for name in ADDRESSES}
    rows = []
    with stage.running(*servers):
        correos = {server: people.seed(server, 200) for server in servers}
        for turn, order in turns.orders(servers, rounds):
            for server in order:
                for kind, (count, accounts, addresses) in LOGINS.items():
                    forget_counts(server)
                    who = [correos[server][number % accounts] for number in range(count)]
                    rows.append(at_once(turn, server, kind, who, addresses))
                    server.settle()
    rows = [row for row in rows if row.turn]
    cells = []
    for server in servers:
        for kind in LOGINS:
            its = [row for row in rows if (row.server, row.kind) == (server.label, kind)]
            statuses = sum((Counter(row.statuses) for row in its), Counter[str]())
            known = [statuses.pop(status, 0) for status in ("200", "503", "429")]
            other = ", ".join(f"{count} {what}" for what, count in sorted(statuses.items()))
            last = spread([row.seconds for row in its])
            cells.append([server.label, kind, *map(str, known), other or "0", last])
    heads = "server|logins|200|503|429|other|seconds until the last"
    return rows, table(
        f"Logins at once with the right passwords, default settings; the sum of {rounds} rounds",
        heads,
        cells,
    )


def forget_counts(server: Measured) -> None:
    """Empty its keys, so that each burst finds the limits of a quiet service."""
    with redis.Redis.from_url(server.environment["redis_url"]) as client:
        client.flushdb()


def at_once(turn: int, server: Measured, kind: str, who: Sequence[str], addresses: int) -> Burst:
    """Log in everybody of ``who`` at the same moment."""
    password = server.account["password"]
    requests = [message({"correo": correo, "password": password}) for correo in who]
    statuses, seconds = asyncio.run(sent(server.port, requests, addresses))
    return Burst(turn, server.label, kind, seconds, dict(Counter(statuses)))


def message(body: dict[str, str]) -> bytes:
    text = json.dumps(body).encode()
    head = "POST /auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


async def sent(port: int, requests: Sequence[bytes], addresses: int) -> tuple[list[str], float]:
    """Send each request over a connection of its own, all at once.

    :param addresses: of loopback, from which they come
    :returns: the status of each, and the seconds until the last
    """
    begun = time.monotonic()

    async def one(number: int, request: bytes) -> str:
        source = (f"127.0.1.{number % addresses + 1}", 0)
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
                writer.write(request)
                line = await reader.readline()
                await reader.read()
                writer.close()
        except OSError as error:  # TimeoutError is one
            return type(error).__name__
        return line.split()[1].decode() if line else "no response"

    statuses = await asyncio.gather(*(one(*pair) for pair in enumerate(requests)))
    return list(statuses), time.monotonic() - begun


def callers(stage: Stage, rounds: int, seconds: int) -> tuple[Sequence[Kept], str]:
    """One caller, and ten thousand in turn, each known to the worker."""
    servers = stage.services("callers")
    rows: list[Row] = []
    queries: list[Figure] = []
    next_one: Counter[Measured] = Counter()

    def measure(turn: int, server: Measured, kind: str, seconds: int) -> Row:
        file = server.directory / kind
        load = server.load("pair", seconds, callers=file, first=next_one[server])
        row = named(stage.measure(turn, server, load), kind)
        if kind == MANY:
            next_one[server] += row.requests
        return row

    with stage.running(*servers):
        for server in servers:
            jwts = people.mint(server, CALLERS)
            for kind, some in ((ONE, jwts[:1]), (MANY, jwts)):
                people.keep(some, server.directory / kind)
            for _ in range(15):  # nobody waits for a server with fewer than 70 requests a second
                measure(0, server, MANY, 10)
                if next_one[server] >= CALLERS:
                    break
            # Right after a load of the same kind: backends report their counts a second late.
            before = transactions(server)
            known = measure(0, server, MANY, max(5, seconds))
            asked = (transactions(server) - before) / known.seconds
            queries.append(Figure(1, server.label, QUERIES, asked))
        for turn, order in turns.orders(servers, rounds):
            for server in order:
                for kind in (ONE, MANY) if turn % 2 else (MANY, ONE):
                    rows.append(measure(turn, server, kind, seconds))
    rows = [row for row in rows if row.turn]
    cells = []
    for server, figure in zip(servers, queries, strict=True):
        rates = [[row.rate for row in turns.of(rows, server.label, kind)] for kind in (ONE, MANY)]
        cells.append(
            [
                server.label,
                *(spread(rate, 0) for rate in rates),
                spread(between(rows, server.label, MANY, ONE)),
                f"{figure.value:,.1f}",
                generator(turns.of(rows, server.label, MANY)),
            ]
        )
    heads = f"server|pairs/s of {ONE}|of {MANY} in turn|ratio|{QUERIES}, of a worker|wrk"
    return [*rows, *queries], table("Callers, each known to the one worker", heads, cells)


def between(rows: Sequence[Row], server: str, kind: str, other: str) -> list[float]:
    """Rates of one kind divided by those of another, turn by turn."""
    pairs = zip(turns.of(rows, server, kind), turns.of(rows, server, other), strict=True)
    return [turns.quotient(one.rate, two.rate) for one, two in pairs]


def transactions(server: Measured) -> int:
    """Of its database so far; a look-up of an account is one."""
    sql = """SELECT xact_commit + xact_rollback FROM pg_stat_database
    WHERE datname = current_database()"""
    return int(execute(server.environment["database_url"], sql)[0][0])


def overload(stage: Stage, rounds: int, seconds: int) -> tuple[Sequence[Kept], str]:
    """One, two and three times as many calls as the service can serve, without a proxy."""
    servers = stage.services("overload")
    rows: list[Row] = []
    with stage.running(*servers):
        for turn, order in turns.orders(servers, rounds):
            for server in order:
                load = server.load(
                    "pair", seconds, connections=PEAK_CONNECTIONS, timely_ms=TIMELY_MS
                )
                peak = named(stage.measure(turn, server, load), "peak")
                rows.append(peak)
                for times in TIMES:
                    load = server.load(
                        "pair",
                        seconds,
                        rate=times * peak.requests / peak.seconds,
                        connections=times * CONNECTIONS,
                        timely_ms=TIMELY_MS,
                    )
                    row = stage.measure(turn, server, load, tolerant=True)
                    rows.append(named(row, f"times {times}"))
                    server.settle()
    rows = [row for row in rows if row.turn]
    cells = []
    for server in servers:
        for kind in ("peak", *(f"times {times}" for times in TIMES)):
            its = turns.of(rows, server.label, kind)
            shares = [
                statistics.median(100 * count(row) / max(1, row.requests) for row in its)
                for count in (late, lambda row: row.busy, lambda row: row.failed)
            ]
            cells.append(
                [
                    server.label,
                    kind,
                    f"{statistics.median(row.requests / row.seconds for row in its):,.0f}",
                    spread(timely(rows, server.label, kind)),
                    *(f"{share:.1f} %" for share in shares),
                    generator(its),
                ]
            )
    heads = (
        f"server|load|responses/s|within {TIMELY_MS} ms, of the peak|later"
        "|503 with Retry-After|otherwise failed|wrk"
    )
    return rows, table("Overload, one worker, no proxy", heads, cells)


def late(row: Row) -> int:
    return max(0, row.requests - row.timely - row.busy - row.failed)


def timely(rows: Sequence[Row], server: str, kind: str) -> list[float]:
    """Timely successes a second divided by all responses a second at the peak, turn by turn."""
    pairs = zip(turns.of(rows, server, kind), turns.of(rows, server, "peak"), strict=True)
    return [(one.timely / one.seconds) / (peak.requests / peak.seconds) for one, peak in pairs]


def generator(rows: Sequence[Row]) -> str:
    """The share of a core that wrk used; a note where it may have been the limit."""
    share = statistics.median(row.wrk_cpu / row.seconds for row in rows)
    return f"{share:.0%} of a core" + (", the limit" if share > BUSY_GENERATOR else "")
