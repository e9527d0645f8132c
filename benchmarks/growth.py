"""The cost of a call as tokens, accounts and data grow."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import dev
from benchmarks import turns
from benchmarks.database import execute
from benchmarks.report import spread, table
from benchmarks.servers import Measured, Row, Stage
from benchmarks.wrk import LIFE
from dev.__main__ import flask
from settings.addresses import redis_servers
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Terms

TOKENS = (1_000, 10_000, 100_000, 1_000_000)
USERS = (100, 1_000, 10_000, 100_000, 1_000_000)
PAYLOADS = (0, 256, 1024, 4096)
OF_ONE_OWNER = 1_000


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their tables"""
    parts = (
        (tokens, "Outstanding tokens: pairs", "pair"),
        (users, "Accounts: GET /auth/me, one query each", "read"),
        (payloads, "Data that a token carries: pairs", "pair"),
    )
    rows, told = [], []
    for part, title, kind in parts:
        its = part(stage, rounds, seconds)
        rows += its
        told.append(growth(title, its, kind))
    return rows, "\n".join(told)


def tokens(stage: Stage, rounds: int, seconds: int) -> list[Row]:
    """Measure pairs with a Redis for each number of tokens, so that these can take turns."""
    with contextlib.ExitStack() as running:
        servers, stages = [], {}
        for count in TOKENS:
            settings = {"maxmemory": "4gb"}
            redis = dev.Redis(stage.directory / f"redis-{count}", settings=settings)
            url = running.enter_context(redis).url
            server = Measured(
                stage.directory, stage.environment, f"{count:,} tokens", redis_url=url
            )
            issue(url, stage.environment["secret_key"], count)
            own = Stage(stage.directory, stage.postgres, redis, stage.environment)
            running.enter_context(own.running(server))
            servers.append(server)
            stages[server] = own
        rows = []
        for turn, order in turns.orders(servers, rounds):
            for server in order:
                load = server.load("pair", seconds)
                rows.append(stages[server].measure(turn, server, load))
    return [row for row in rows if row.turn]


def issue(url: str, secret: str, count: int) -> None:
    """Create ``count`` tokens that outlast the run."""
    connection = Connection(**redis_servers(url), connect_ms=5000, read_ms=60_000, connections=1)
    store = TokenStore(connection, secret=secret.encode(), max_active=1_000_000)
    terms = Terms(subject="growth")
    for first in range(0, count, 100):
        owner = f"owner-{first // OF_ONE_OWNER}"
        store.create_many(owner, min(100, count - first), life_seconds=LIFE, terms=terms)


def users(stage: Stage, rounds: int, seconds: int) -> list[Row]:
    """Measure look-ups with a database for each number of accounts."""
    servers = []
    for count in USERS:
        name = f"users_{count}"
        url = stage.postgres.url.rpartition("/")[0] + f"/{name}"
        execute(stage.postgres.url, f"CREATE DATABASE {name}")
        environment = stage.environment | {"database_url": url}
        flask(["db", "upgrade"], "", environment)
        execute(url, ACCOUNTS, (count,))
        # Column statistics, as autovacuum would have them by then.
        execute(url, "VACUUM ANALYZE users")
        servers.append(Measured(stage.directory, environment, f"{count:,} users"))
    with stage.running(*servers):
        return turns.take_turns(stage, servers, rounds, ("read", seconds), read="GET /auth/me")


ACCOUNTS = """
INSERT INTO users (id, nombre, correo, password_hash)
SELECT gen_random_uuid(), 'Ana', 'ana' || n || '@example.com', 'none'
FROM generate_series(1, %s) AS n
"""


def payloads(stage: Stage, rounds: int, seconds: int) -> list[Row]:
    server = Measured(stage.directory, stage.environment, "payload")
    rows = []
    with stage.running(server):
        for turn in range(rounds + 1):
            for size in PAYLOADS:
                load = server.load("pair", seconds, body=body(size))
                row = stage.measure(turn, server, load)
                rows.append(Row(**{**vars(row), "server": f"{size:,} bytes"}))
    return [row for row in rows if row.turn]


def body(size: int) -> str:
    """The body of a create whose ``data`` is a JSON object of ``size`` bytes."""
    text = "x" * (size - len('{"a":""}'))
    return f'{{"expires_in": {LIFE}' + (f', "data": {{"a": "{text}"}}}}' if size else "}")


def number(label: str) -> int:
    return int(label.split(maxsplit=1)[0].replace(",", ""))


def growth(title: str, rows: Sequence[Row], kind: str) -> str:
    labels = sorted({row.server for row in rows}, key=number)
    first = turns.cost(rows, labels[0], kind)
    cells = []
    for label in labels:
        its = turns.cost(rows, label, kind)
        whole, before = (
            cost["server_cpu"] + cost["redis_cpu"] + cost["postgres_cpu"] for cost in (its, first)
        )
        cells.append(
            [
                label,
                spread([row.rate for row in turns.of(rows, label, kind)], 0),
                f"{whole:.2f}",
                f"{whole / before:.2f}",
                f"{its['redis_cpu']:.3f}",
                f"{its['postgres_cpu']:.3f}",
            ]
        )
    heads = "how many|a second|CPU s for 1,000 requests|against the first|of Redis|of Postgres"
    return table(title, heads, cells)
