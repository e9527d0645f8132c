"""Measure the service beside another revision, its floor and peers; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dev
from benchmarks import (
    bursts,
    chart,
    compare,
    distance,
    goals,
    growth,
    logins,
    memory,
    revision,
    slow,
    workers,
    wrk,
)
from benchmarks.servers import Stage
from dev.__main__ import flask

PARTS = {
    "compare": compare.run,
    "workers": workers.run,
    "growth": growth.run,
    "logins": logins.run,
    "bursts": bursts.run,
    "slow": slow.run,
    "distance": distance.run,
    "memory": memory.run,
}
RESULTS = Path(__file__).with_name("results.json")
NEVER_HIT = 100_000_000  # a minute
#: What is kept has at least as many rounds.
KEPT_ROUNDS = 10


def main() -> None:
    options = arguments(sys.argv[1:])
    if not wrk.is_there():
        sys.exit("wrk, which makes the load, is not installed. On Debian: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every "with" ends
    rows: dict[str, Sequence[Any]] = {}
    with staged(options.against) as stage:
        if stage.before:
            print(f"before is {stage.before.name}", flush=True)
        try:
            for part in options.parts:
                rows[part], told = PARTS[part](stage, options.rounds, options.seconds)
                print(told, flush=True)
                if options.save:
                    save({part: rows[part]})
        finally:  # an hour of measurements is not lost with its last part
            print(goals.told(rows, everything=PARTS.keys() == rows.keys()), flush=True)
    if options.save and "compare" in rows:
        chart.write(rows["compare"])


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all"
    )
    parser.add_argument("--rounds", type=int, help=f"default: 5, or {KEPT_ROUNDS} with --save")
    parser.add_argument("--seconds", type=int, default=2, help="length of each load")
    parser.add_argument("--against", metavar="REV", help="measure this revision too, as 'before'")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name} and the chart")
    options = parser.parse_args(words)
    options.parts = options.parts or list(PARTS)
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(unknown)}")
    if options.rounds is None:
        options.rounds = KEPT_ROUNDS if options.save else 5
    if options.rounds < 1 or options.seconds < 1:
        parser.error("a round and a second are the least")
    if options.save and options.rounds < KEPT_ROUNDS:
        parser.error(f"what is kept has at least {KEPT_ROUNDS} rounds")
    return options


def save(rows: Mapping[str, Sequence[Any]], to: Path = RESULTS) -> None:
    """Put the rows of each part in place of the former ones, a row a line."""
    known = json.loads(to.read_text()) if to.exists() else {}
    known |= {part: [rounded(asdict(row)) for row in its] for part, its in rows.items()}
    parts = (
        f"{json.dumps(part)}: [\n" + ",\n".join(map(json.dumps, its)) + "\n]"
        for part, its in known.items()
    )
    to.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


@contextlib.contextmanager
def staged(against: str | None = None) -> Iterator[Stage]:
    """Run the stores that all servers share, migrated.

    :param against: another revision, which gets a database and keys of its own
    """
    with contextlib.ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        other = running.enter_context(revision.checked_out(against, directory)) if against else None
        postgres = running.enter_context(dev.Postgres(directory, durable=False))
        redis = running.enter_context(dev.Redis(directory, settings={"maxmemory": "4gb"}))
        often = f"{NEVER_HIT} per minute"
        environment = {
            "PATH": os.environ["PATH"],
            "web_concurrency": "1",
            "database_url": postgres.url,
            "redis_url": redis.url,
            "secret_key": secrets.token_urlsafe(48),
            "access_token_expire_minutes": "1440",
            "max_active": "1000000",
            **{f"rate_limit_{name}": often for name in ("create", "validate", "register", "login")},
            # A busy machine may stall for longer than the default, and only work is measured.
            "redis_connect_timeout_ms": "5000",
            "redis_timeout_ms": "5000",
            # Read by the peers only.
            "calls_per_minute": str(NEVER_HIT),
            "onetime_token_expire_seconds": str(wrk.LIFE),
        }
        flask(["db", "upgrade"], "", environment)
        before = revision.migrated(other, environment) if other else None
        yield Stage(directory, postgres, redis, environment, before)


if __name__ == "__main__":
    main()
