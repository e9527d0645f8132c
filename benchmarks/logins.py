"""The latency of token calls while many logins are attempted."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks import turns
from benchmarks.compare import CALM, named
from benchmarks.report import spread, table
from benchmarks.servers import Burst, Measured, Row, Stage

A_SECOND = 50
ALONE, BESIDE, BURST = "alone", "with logins", "logins"


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row | Burst], str]:
    """:returns: the rows, and their table"""
    # Limits would refuse most of them before they cost anything.
    off = {"rate_limit_login": "off", "web_concurrency": 2}
    servers = stage.services("logins", **off)
    rows: list[Row] = []
    bursts: list[Burst] = []
    with stage.running(*servers):
        peaks = {
            server: stage.measure(0, server, server.load("pair", seconds)).rate * 2
            for server in servers
        }
        for turn, order in turns.orders(servers, rounds):
            for server in order:
                load = server.load("pair", seconds, rate=peaks[server] / 2, **CALM)
                rows.append(named(stage.measure(turn, server, load), ALONE))
                with Storm(server) as storm:
                    rows.append(named(stage.measure(turn, server, load), BESIDE))
                bursts.append(storm.burst(turn, server.label))
    rows = [row for row in rows if row.turn]
    bursts = [burst for burst in bursts if burst.turn]
    cells, told = [], []
    for server in servers:
        for kind in (ALONE, BESIDE):
            its = turns.of(rows, server.label, kind)
            asked = statistics.median(row.requests / row.seconds for row in its)
            times = (spread([getattr(row, name) for row in its]) for name in ("p50", "p99", "p999"))
            cells.append([server.label, kind, f"{asked:,.0f}", *times])
        mine = [burst for burst in bursts if burst.server == server.label]
        statuses = sum((Counter(burst.statuses) for burst in mine), Counter[str]())
        counts = ", ".join(f"{count} got {status}" for status, count in sorted(statuses.items()))
        rate = spread([burst.succeeded / burst.seconds for burst in mine], 1)
        told.append(
            f"{server.label}: p99 with logins / alone: {spread(slower(rows, server.label))}. "
            f"Logins: {counts}; {rate} a second succeeded."
        )
    title = (
        f"Token calls at half of the peak, alone and while {A_SECOND} logins a second are "
        "attempted (ms), 2 workers"
    )
    heads = "server|token calls|requests/s|p50|p99|p99.9"
    return [*rows, *bursts], table(title, heads, cells) + "\n\n" + "\n".join(told)


def slower(rows: Sequence[Row], server: str) -> list[float]:
    """p99 beside logins divided by p99 alone, turn by turn."""
    pairs = zip(turns.of(rows, server, BESIDE), turns.of(rows, server, ALONE), strict=True)
    return [turns.quotient(one.p99, two.p99) for one, two in pairs]


class Storm:
    """Logins at a fixed rate, while the ``with`` lasts."""

    def __init__(self, server: Measured) -> None:
        self._responses: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._seconds = 0.0
        self._server = server
        self._over = threading.Event()
        self._callers = ThreadPoolExecutor(A_SECOND)
        self._clock = threading.Thread(target=self._keep_time)

    def burst(self, turn: int, label: str) -> Burst:
        """The statuses of all its logins, and for how long they were attempted."""
        return Burst(turn, label, BURST, self._seconds, dict(self._responses))

    def __enter__(self) -> Storm:
        self._begun = time.monotonic()
        self._clock.start()
        time.sleep(1)  # until the rate is reached
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._seconds = time.monotonic() - self._begun
        self._clock.join()
        self._callers.shutdown()

    def _keep_time(self) -> None:
        begun = time.monotonic()
        while not self._over.wait(max(0, begun - time.monotonic())):
            begun += 1 / A_SECOND
            self._callers.submit(self._log_in)

    def _log_in(self) -> None:
        account = {name: self._server.account[name] for name in ("correo", "password")}
        _, body = self._server.post("/auth/login", account)
        self._responses[str(body.get("status", 200))] += 1
