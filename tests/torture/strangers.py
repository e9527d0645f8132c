"""Strangers at every door that needs Postgres, in a process of their own."""

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


@dataclass(frozen=True)
class Knock:
    """A request that ``clients`` strangers make, each of them every ``pause`` seconds or later."""

    clients: int
    pause: float
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Heard:
    """What they were answered, by path and status, and the seconds that each answer took."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        return sorted(self.seconds)[int(part * (len(self.seconds) - 1))]


def knocking(orders: Pipe, port: int, knocks: list[Knock]) -> Heard:
    """Knock until told to stop."""
    heard, over = Heard(), threading.Event()

    def stranger(knock: Knock) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        body = None if knock.body is None else json.dumps(knock.body)
        headers = {"Content-Type": "application/json", **knock.headers}
        while not over.is_set():
            started = time.monotonic()
            try:
                line.request("POST" if body else "GET", knock.path, body, headers)
                answer = line.getresponse()
                answer.read()
                heard.answers[knock.path, answer.status] += 1
            except (OSError, http.client.HTTPException):
                line.close()
                heard.answers[knock.path, 0] += 1
            took = time.monotonic() - started
            heard.seconds.append(took)
            over.wait(max(0.0, knock.pause - took))
        line.close()

    strangers = [
        threading.Thread(target=stranger, args=(knock,))
        for knock in knocks
        for _ in range(knock.clients)
    ]
    for each in strangers:
        each.start()
    with contextlib.suppress(EOFError):
        orders.recv()
    over.set()
    for each in strangers:
        each.join()
    return heard
