"""``flask capacity`` against real servers, and against the kept results of the benchmark.

``python -m tests.ops.test_capacity`` prints the bytes of a token that docs/operations/capacity.md
gives, for the Redis on PATH.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import statistics
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
import redis
from flask import Flask

import dev
from benchmarks.servers import memory
from tests.stage.commands import output, refusal
from tests.stage.connections import connect
from tests.stage.paths import ROOT
from tests.stage.service import Service
from tokenservice.extensions import db
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented, Terms
from tokenservice.ops.capacity import (
    PROCESS_MB,
    REDIS_SECONDS,
    SHARED_MB,
    TOKENS_OF_A_WORKER,
    Load,
    need_of,
    redis_bytes,
)

LUIS = Party(str(uuid.UUID(int=7)))
OWNERS, OF_ONE_OWNER = 10, 200
WIDELY = 0.3
LOAD = Load(
    rate=100,
    life=10,
    used_after=10,
    receipt=300,
    window=60,
    data=0,
    audience=1,
    logins=0,
    hash_kib=19_456,
    threads=8,
    redis_ms=1,
)


def terms(audience: int, data: int) -> Terms:
    return Terms(
        purpose="payments.approve",
        audience=(*(str(uuid.uuid4()) for _ in range(audience - 1)), LUIS.id),
        subject="order 7",
        bind="0f" * 32,
        data=f'{{"":"{"x" * (data - 7)}"}}' if data else "",
    )


#: Tokens by their size: the terms, and whether their calls have idempotency keys.
KINDS = {
    "with a purpose alone": (Terms(purpose="payments.approve"), False),
    "bound: purpose, one in the audience, subject, bind": (terms(1, 0), False),
    "the same, its two calls with idempotency keys": (terms(1, 0), True),
    "and 200 bytes of data": (terms(1, 200), True),
    "and 4 KiB of data": (terms(1, 4096), True),
    "and 16 in the audience": (terms(16, 0), True),
}


@dataclasses.dataclass
class Taken:
    """Bytes of a token: its record by MEMORY USAGE, and all that it takes, by ``used_memory``."""

    record: int
    outstanding: float
    used: float


def taken(url: str, each: Terms, *, is_keyed: bool) -> Taken:
    """Create tokens of several owners, then consume each; none has expired by then."""

    def key() -> str:
        return secrets.token_hex(8) if is_keyed else ""

    with redis.from_url(url) as client:
        client.flushall()
        store = TokenStore(connect(url, connections=1), secret=b"s" * 32)
        warm = store.create("warm", life_seconds=600, terms=each)  # loads the scripts
        expected = {"purpose": each.purpose, "subject": each.subject, "bind": each.bind}
        store.validate(Presented(warm.text, **expected), LUIS)

        used: Callable[[], int] = lambda: client.info("memory")["used_memory"]  # noqa: E731
        before = used()
        owners = [str(uuid.uuid4()) for _ in range(OWNERS)]
        made = [
            store.create(owner, life_seconds=600, terms=each, key=key())
            for owner in owners
            for _ in range(OF_ONE_OWNER)
        ]
        outstanding = used()
        for token in made:
            store.validate(Presented(token.text, **expected), LUIS, key=key())
        after = used()
        [record] = client.scan_iter(match=f"*:{made[0].id}", count=100_000)
        return Taken(
            client.memory_usage(record, samples=0) or 0,
            (outstanding - before) / len(made),
            (after - before) / len(made),
        )


@pytest.mark.slow
def test_a_redis_takes_as_much_as_is_predicted(own_redis: dev.Redis) -> None:
    """Guards: the constants of capacity.py. A record that grows by half turns this red."""
    for audience, data in ((1, 0), (1, 200), (1, 4096), (16, 0)):
        load = dataclasses.replace(LOAD, audience=audience, data=data, receipt=290, window=300)
        predicted = redis_bytes(load) / (load.rate * 300)  # All keys are remembered here.
        real = taken(own_redis.url, terms(audience, data), is_keyed=True).used
        assert abs(predicted / real - 1) < WIDELY, (audience, data, predicted, real)


@pytest.mark.slow
def test_processes_take_as_much_as_is_predicted(service: Service) -> None:
    pids = [service.process.pid, *service.workers()]
    real = sum(memory(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids)
    assert abs((SHARED_MB + PROCESS_MB * len(pids)) / real - 1) < WIDELY, real


def test_the_rates_are_those_of_the_benchmark() -> None:
    """Results that are measured anew, and differ, turn this red."""
    rows = json.loads((ROOT / "benchmarks/results.json").read_text())["compare"]
    pairs = [row for row in rows if (row["server"], row["kind"]) == ("service", "pair")]
    peak = statistics.median(row["units"] / row["seconds"] for row in pairs)
    in_redis = statistics.median(row["redis_cpu"] / row["units"] for row in pairs)
    assert peak / 2 == pytest.approx(TOKENS_OF_A_WORKER, rel=0.1)
    assert in_redis == pytest.approx(REDIS_SECONDS, rel=0.1)


def test_connections_are_those_of_the_workers(app: Flask) -> None:
    """Old and new workers hold theirs at once during a reload."""
    with app.app_context():
        each = db.engine.pool.size()  # type: ignore[attr-defined]
    need = need_of(LOAD)
    assert need.postgres_connections == 2 * need.workers * each + 3


@pytest.fixture
def run(app: Flask) -> Callable[..., click.testing.Result]:
    def command(*words: str) -> click.testing.Result:
        return app.test_cli_runner().invoke(args=["capacity", *words])

    return command


def test_settings_are_the_defaults(run: Callable[..., click.testing.Result]) -> None:
    named = ("--life", "10", "--used-after", "10", "--receipt", "300")
    assert output(run("--rate", "2000", "--json")) == output(
        run("--rate", "2000", "--json", *named)
    )


def test_lines_say_the_same_as_json(run: Callable[..., click.testing.Result]) -> None:
    figures = json.loads(output(run("--rate", "2000", "--logins", "5", "--json")))
    lines = output(run("--rate", "2000", "--logins", "5")).splitlines()
    assert [int(line.split()[0].replace(",", "")) for line in lines] == list(figures.values())


@pytest.mark.parametrize(
    ("changes", "grows"),
    [
        ({"rate": 5000}, {"workers", "memory_mb", "redis_mb", "redis_masters"}),
        ({"life": 600, "used_after": 600}, {"redis_mb", "redis_records"}),
        ({"data": 200}, {"redis_mb"}),
        ({"audience": 16}, {"redis_mb"}),
        ({"logins": 100}, {"workers", "memory_mb", "postgres_connections"}),
        ({"redis_ms": 50}, {"threads", "postgres_connections"}),
    ],
)
def test_more_of_something_needs_more(changes: dict[str, float], grows: set[str]) -> None:
    usual, more = (
        dataclasses.asdict(need_of(load)) for load in (LOAD, dataclasses.replace(LOAD, **changes))
    )
    assert {name for name in usual if more[name] > usual[name]} >= grows


def test_a_token_that_is_used_early_is_kept_for_less() -> None:
    """Redis shortens the record of a long life, and no other."""
    day = dataclasses.replace(LOAD, life=86_400, used_after=86_400)
    early = dataclasses.replace(day, used_after=5)
    assert need_of(early).redis_records == 100 * (5 + 10 + 300)
    assert need_of(day).redis_records == 100 * (86_400 + 300)


@pytest.mark.parametrize("words", ["", "--rate 0", "--rate 1 --data 5000", "--rate 1 --life -1"])
def test_a_wrong_option_is_refused(run: Callable[..., click.testing.Result], words: str) -> None:
    assert "Usage: " in refusal(run(*words.split()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, dev.Redis(Path(folder)) as server:
        lines = []
        for name, (each, is_keyed) in KINDS.items():
            it = taken(server.url, each, is_keyed=is_keyed)
            lines.append(f"| {name} | {it.record} | {it.outstanding:.0f} | {it.used:.0f} |")
    sys.stdout.write(
        "\n".join(["| token | record | outstanding | used |", "|---|---|---|---|", *lines, ""])
    )
