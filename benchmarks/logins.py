"""The latency of token calls while many logins are attempted."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from benchmarks import turns
from benchmarks.compare import CALM, named
from benchmarks.report import spread, table
from benchmarks.servers import Measured, Row, Stage

A_SECOND = 50


def run(stage: Stage, rounds: int, seconds: int) -> tuple[list[Row], str]:
    """:returns: the rows, and their table"""
    # Limits would refuse most of them before they cost anything.
    off = {"rate_limit_login": "off", "web_concurrency": 2}
    server = Measured(stage.directory, stage.environment, "logins", **off)
    rows: list[Row] = []
    responses: Counter[int] = Counter()
    with stage.running(server):
        peak = stage.measure(0, server, server.load("pair", seconds)).rate * 2
        for turn in range(1, rounds + 1):
            load = server.load("pair", seconds, rate=peak / 2, **CALM)
            rows.append(named(stage.measure(turn, server, load), "alone"))
            with Storm(server) as storm:
                rows.append(named(stage.measure(turn, server, load), "with logins"))
            responses += storm.responses
    alone, beside = (
        [row.p99 for row in turns.of(rows, server.label, kind)] for kind in ("alone", "with logins")
    )
    cells = []
    for kind in ("alone", "with logins"):
        its = turns.of(rows, server.label, kind)
        asked = statistics.median(row.requests / row.seconds for row in its)
        times = (spread([getattr(row, name) for row in its]) for name in ("p50", "p99", "p999"))
        cells.append([kind, f"{asked:,.0f}", *times])
    told = ", ".join(f"{count} got {status}" for status, count in sorted(responses.items()))
    ratio = spread([b / a for a, b in zip(alone, beside, strict=True)])
    return rows, (
        table(
            f"Token calls at half of the peak, alone and while {A_SECOND} logins a second are "
            "attempted (ms), 2 workers",
            "token calls|requests/s|p50|p99|p99.9",
            cells,
        )
        + f"\n\np99 with logins / alone: {ratio}. Logins: {told}."
    )


class Storm:
    """Logins at a fixed rate, while the ``with`` lasts."""

    def __init__(self, server: Measured) -> None:
        self.responses: Counter[int] = Counter()
        self._server = server
        self._over = threading.Event()
        self._callers = ThreadPoolExecutor(A_SECOND)
        self._clock = threading.Thread(target=self._keep_time)

    def __enter__(self) -> Storm:
        self._clock.start()
        time.sleep(1)  # until the rate is reached
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
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
        self.responses[body.get("status", 200)] += 1
