"""The gate at full length: connects through nginx with its recipe, and replies lost on the way.

nginx asks again under its own id of the request. So a visitor is admitted although nobody received
the reply that consumed the ticket, and a second visitor with that ticket is not.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stage.gateways import PURPOSE, Backend, Changes, Door, Nginx, serving
from tests.stage.proxy import CUT, DELAY, SWALLOW, Proxy
from tests.stage.service import Service
from tests.torture.ledger import FULL, record, trials

VISITORS = 16
#: nginx waits this long for a reply: a late one is late, and the others are not.
WAIT_SECONDS = 3.0
WAITS_LESS = (("proxy_read_timeout 10s", f"proxy_read_timeout {WAIT_SECONDS * 1000:.0f}ms"),)
WITHOUT_ITS_ID = (("proxy_set_header Idempotency-Key $request_id;", ""),)
#: Of twenty replies, those that are lost: most of them at once, because the others take a wait.
LOST = (*[CUT] * 9, SWALLOW, "", "", *[CUT] * 5, DELAY, "", "")


class Application(BaseHTTPRequestHandler):
    """It opens each WebSocket that reaches it, and counts them by ticket."""

    opened: Counter[str]

    def do_GET(self) -> None:
        self.opened[self.headers["X-Token-Id"]] += 1
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def backend(serve: Callable[..., Service]) -> Iterator[Backend]:
    settings = {"max_active": 1_000_000, "access_token_expire_minutes": 1440}
    with serve(web_concurrency=2, web_threads=VISITORS, **settings) as service:
        yield Backend(service)


@contextlib.contextmanager
def opened(backend: Backend, folder: Path, changes: Changes) -> Iterator[tuple[Door, Proxy]]:
    """nginx, and a proxy behind it that loses the replies of the gate."""
    Application.opened = Counter()
    service, correo = backend.service, backend.issuer.correo
    with (
        serving(Application) as port,
        Proxy(service.port, late=2 * WAIT_SECONDS) as lossy,
        Nginx(folder, lossy.port, port, backend.key, correo, changes) as proxy,
    ):
        yield Door(service, proxy, backend.issuer), lossy


def tickets(backend: Backend, count: int) -> Iterator[str]:
    """Tickets made a hundred at a time, so that none is old when it is used."""
    with httpx.Client(base_url=backend.service.url, timeout=30) as http:
        for start in range(0, count, 100):
            made = http.post(
                "/token/batch",
                json={"purpose": PURPOSE, "expires_in": 600, "count": min(100, count - start)},
                headers=backend.issuer.headers,
            )
            yield from (token["token"] for token in made.json()["tokens"])


def statuses(door: Door, offers: list[str]) -> list[str]:
    """The statuses of as many visitors at once, in the order of their tickets."""
    with ThreadPoolExecutor(VISITORS) as visitors:
        heads = visitors.map(door.shake_hands, offers)
        return [head.split(b" ", 2)[1].decode() for head in heads]


def test_a_ticket_opens_one_connection_through_lost_replies(
    backend: Backend, tmp_path: Path
) -> None:
    """Two visitors come with each ticket, at about the same time."""
    count = trials(10_000, least=200)
    outcomes: Counter[tuple[str, ...]] = Counter()
    with opened(backend, tmp_path, WAITS_LESS) as (door, lossy):
        waiting: list[str] = []
        for number, ticket in enumerate(tickets(backend, count), 1):
            if kind := LOST[number % len(LOST)]:
                lossy.lose(ticket.encode(), kind)
            waiting.append(f"ott, {ticket}")
            if len(waiting) == 100 or number == count:
                told = statuses(door, [offer for offer in waiting for _ in range(2)])
                outcomes.update(tuple(sorted(pair)) for pair in zip(*[iter(told)] * 2, strict=True))
                waiting.clear()
        lost, logs = lossy.lost, door.proxy.logs()
    right = outcomes[("101", "403")]
    # A stalled machine makes the service refuse some; it lets nobody in, and the full run has none.
    refused = sum(times for pair, times in outcomes.items() if "503" in pair and not FULL)
    twice = sum(times > 1 for times in Application.opened.values())
    record(
        "Two visitors come to nginx with each ticket, and most replies of the gate are lost: nginx "
        "asks again, one visitor is admitted, and the other is not",
        n=count,
        failures=count - right - refused + twice,
        figures=f"{lost.total():,} replies lost: {lost[CUT]:,} by a reset, "
        f"{lost[SWALLOW]:,} dropped, {lost[DELAY]:,} late",
    )
    record("A ticket is in no log of nginx", n=2 * count, failures=logs.count("ott_"))
    assert right + refused == count, outcomes
    assert right > count / 2
    assert len(Application.opened) == sum("101" in pair for pair in outcomes.elements())
    assert not twice
    assert lost.total() == sum(bool(LOST[number % len(LOST)]) for number in range(1, count + 1))
    assert "ott_" not in logs


def test_without_its_id_a_retry_of_nginx_refuses_the_visitor(
    backend: Backend, tmp_path: Path
) -> None:
    """Without this header of the recipe the test above fails."""
    count = trials(1000, least=20)
    with opened(backend, tmp_path, WITHOUT_ITS_ID) as (door, lossy):
        offers = []
        for ticket in tickets(backend, count):
            lossy.lose(ticket.encode(), CUT)
            offers.append(f"ott, {ticket}")
        told = Counter(statuses(door, offers))
    record(
        "A visitor whose reply of the gate is lost is admitted, without the id of the request "
        "(must fail)",
        n=count,
        failures=told["403"],
    )
    # The reply that is lost may be the refusal of a stalled machine.
    assert told["403"] >= (count if FULL else count / 4)
