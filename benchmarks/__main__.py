"""Measure the service beside its floor and peers, on throw-away servers; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import dev
from benchmarks import chart, compare, growth, logins, memory, workers, wrk
from benchmarks.servers import Row, Stage
from dev.__main__ import flask

PARTS = {
    "compare": compare.run,
    "workers": workers.run,
    "growth": growth.run,
    "logins": logins.run,
    "memory": memory.run,
}
RESULTS = Path(__file__).with_name("results.json")
NEVER_HIT = 100_000_000  # a minute


def main() -> None:
    options = arguments()
    if not wrk.is_there():
        sys.exit("wrk, which makes the load, is not installed. On Debian: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every "with" ends
    rows: dict[str, list[Row]] = {}
    with staged() as stage:
        for part in options.parts:
            rows[part], told = PARTS[part](stage, options.rounds, options.seconds)
            print(told, flush=True)
    if options.save:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known |= {part: [asdict(row) for row in its] for part, its in rows.items()}
        RESULTS.write_text(json.dumps(known, indent=0) + "\n")
        if "compare" in rows:
            chart.write(rows["compare"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of each load")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name} and the chart")
    options = parser.parse_args()
    options.parts = options.parts or list(PARTS)
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(unknown)}")
    return options


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """Run the stores that all servers share, migrated."""
    with contextlib.ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
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
        yield Stage(directory, postgres, redis, environment)


if __name__ == "__main__":
    main()
