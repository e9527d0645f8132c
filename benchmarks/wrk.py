"""The load: wrk with load.lua, one thread and some keep-alive connections."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
LIFE = 3600  # of a token, in seconds: longer than any run
BODY = f'{{"expires_in": {LIFE}}}'


@dataclass(frozen=True)
class Calls:
    """The calls of a server, each as a method and a path."""

    create: str
    validate: str


@dataclass(frozen=True)
class Load:
    """The load on a server.

    :param kind: pair (create, then validate that token), create, validate or read
    :param rate: requests a second; None for as many as possible
    :param headers: those with the credentials of the caller
    :param read: a method and a path, for the kind "read"
    :param callers: a file of JWTs; each makes one request in turn
    :param first: the number of the holder who begins
    :param timely_ms: the time within which a response is counted as timely
    """

    kind: str
    port: int
    seconds: int
    calls: Calls
    headers: str = field(repr=False)
    tokens: Path = Path(os.devnull)
    connections: int = 8
    rate: float | None = None
    body: str = BODY
    read: str = "GET /healthz"
    callers: Path | None = None
    first: int = 0
    timely_ms: int | None = None


@dataclass(frozen=True)
class Done:
    """The result of a load. Latencies are in milliseconds, CPU (of wrk) in seconds.

    ``units`` are pairs for the kind "pair", else requests. ``busy`` are responses 503 with
    ``Retry-After``, and ``failed`` all that is neither that nor a success.
    """

    units: float
    requests: int
    seconds: float
    p50: float
    p99: float
    p999: float
    cpu: float
    timely: int
    busy: int
    failed: int


def run(load: Load, tolerant: bool = False) -> Done:
    """:raises SystemExit: with the first response that is not a success"""
    environment = {
        "PATH": os.environ["PATH"],
        "BENCH_KIND": load.kind,
        "BENCH_CREATE": load.calls.create,
        "BENCH_VALIDATE": load.calls.validate,
        "BENCH_READ": load.read,
        "BENCH_BODY": load.body,
        "BENCH_HEADERS": load.headers,
        "BENCH_TOKENS": str(load.tokens),
        **({"BENCH_RATE": str(load.rate)} if load.rate else {}),
        **({"BENCH_CALLERS": str(load.callers)} if load.callers else {}),
        "BENCH_FIRST": str(load.first),
        **({"BENCH_TIMELY_MS": str(load.timely_ms)} if load.timely_ms else {}),
    }
    size = [f"--connections={load.connections}", f"--duration={load.seconds}s", "--timeout=20s"]
    command = ["wrk", "--threads=1", *size, f"--script={SCRIPT}", f"http://127.0.0.1:{load.port}"]
    before = children_cpu()
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    line = re.search(r"^bench (.*)$", said.stdout, re.MULTILINE)
    if not line:
        raise SystemExit(f"wrk failed.\n{said.stdout}{said.stderr}")
    words = line[1].split()
    told = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    if (told["unexpected"] or told["lost"]) and not tolerant:
        raise SystemExit(f"Not all responses were successes, in {load}:\n{said.stdout[-1000:]}")
    pairs = min(told["created"], told["others"])
    return Done(
        units=pairs if load.kind == "pair" else told["requests"],
        requests=int(told["requests"]),
        seconds=told["seconds"],
        p50=told["p50"] / 1000,
        p99=told["p99"] / 1000,
        p999=told["p999"] / 1000,
        cpu=children_cpu() - before,
        timely=int(told["timely"]),
        busy=int(told["busy"]),
        failed=int(told["failed"] + told["lost"]),
    )


def is_there() -> bool:
    return shutil.which("wrk") is not None


def children_cpu() -> float:
    """CPU seconds of ended children. Servers still run when a load ends, so they do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
