"""Load of strangers, clients that no worker knows, on every route that needs Postgres."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

#: A connection that was idle for longer is opened anew: the service closes it after 2 s.
IDLE_SECONDS = 1.2


@dataclass(frozen=True)
class Load:
    """A request of ``clients`` strangers, each of which sends it every ``pause`` seconds."""

    clients: int
    pause: float
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Received:
    """The number of responses by path and status, and the seconds that each took."""

    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        return sorted(self.seconds)[int(part * (len(self.seconds) - 1))]


def send(orders: Pipe, port: int, loads: list[Load]) -> Received:
    """Send the requests until the test ends them."""
    received, over = Received(), threading.Event()

    def stranger(load: Load) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        body = None if load.body is None else json.dumps(load.body)
        headers = {"Content-Type": "application/json", **load.headers}
        ended = time.monotonic()
        while not over.is_set():
            started = time.monotonic()
            if started - ended > IDLE_SECONDS:
                line.close()
            try:
                line.request("POST" if body else "GET", load.path, body, headers)
                answer = line.getresponse()
                answer.read()
                received.responses[load.path, answer.status] += 1
            except (OSError, http.client.HTTPException):
                line.close()
                received.responses[load.path, 0] += 1
            ended = time.monotonic()
            took = ended - started
            received.seconds.append(took)
            over.wait(max(0.0, load.pause - took))
        line.close()

    strangers = [
        threading.Thread(target=stranger, args=(load,))
        for load in loads
        for _ in range(load.clients)
    ]
    for each in strangers:
        each.start()
    with contextlib.suppress(EOFError):
        orders.recv()
    over.set()
    for each in strangers:
        each.join()
    return received
