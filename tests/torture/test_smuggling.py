"""Request smuggling: the service refuses ambiguous requests, and parses all others in one way.

On raw sockets against a real gunicorn. Every response is counted: none may be left over, none may
belong to another client, and the service's log must have the same ones in the same order.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.stage.service import Service
from tests.torture import ledger
from tests.torture.framing import CUT, LAST, REFUSED, UNDERSTOOD, VICTIM
from tests.torture.haproxy import HAProxy, needs_haproxy

#: The time limit of a client; the short run shares its machine.
SECONDS = 1.0 if ledger.FULL else 5.0
#: Each case is sent whole, and then split at random places into so many TCP segments.
ROUNDS = ledger.trials(50, least=2)
numbers = itertools.count(250)


@dataclass
class Exchange:
    """The responses on one connection until the other side closed it."""

    statuses: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def converse(front: Front, request: bytes, pieces: int, responses: int) -> Exchange:
    """Send ``request`` in ``pieces``, read ``responses`` responses, close, and read the rest."""
    exchange = Exchange()
    own = (front.address(), 0)
    with socket.create_connection(("127.0.0.1", front.port), 10, own) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # The service may refuse it before its end.
            for piece in cut(request, pieces):
                connection.sendall(piece)
                time.sleep(0.002 if pieces > 1 else 0)
        sent = time.monotonic()
        received = b""
        while True:
            if len(exchange.statuses) >= responses:
                hang_up(connection)
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                part = b""
            except TimeoutError:
                exchange.wrong.append("it hangs")
                part = b""
            if not part:
                break
            received += part
            while length := next_response(received, exchange):
                received = received[length:]
    if received:
        exchange.wrong.append(f"{len(received)} bytes that are no response")
    exchange.seconds = time.monotonic() - sent
    return exchange


def cut(request: bytes, pieces: int) -> Iterator[bytes]:
    places = sorted(random.sample(range(1, len(request)), min(pieces, len(request)) - 1))
    for begin, end in zip([0, *places], [*places, len(request)], strict=True):
        yield request[begin:end]


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # The other side may be quicker.
        connection.shutdown(socket.SHUT_WR)


def next_response(received: bytes, exchange: Exchange) -> int:
    """Record the response at the start of ``received``; return its length, 0 if incomplete."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return 0
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status = int(line.split()[1])
    # The response to a HEAD has a length and no body; only that case has one here.
    length = int(headers.get("content-length", 0))
    if body[:5] == b"HTTP/":
        length = 0
    if len(body) < length:
        return 0
    exchange.statuses.append(status)
    if status == 100:
        return len(head) + 4
    exchange.ids.append(headers.get("x-request-id", "none"))
    # The responses of the service have an id; HAProxy's own to malformed requests have none.
    if exchange.ids[-1] == "none":
        return len(head) + 4 + length
    if status >= 400 and headers.get("content-type") != "application/problem+json":
        exchange.wrong.append(f"a {status} without a problem")
    if length and f'"status": {status}'.encode() not in body[:length]:
        exchange.wrong.append(f"a {status} with another status in its body")
    return len(head) + 4 + length


class Front:
    """The target of the requests, and the log of the service behind it."""

    def __init__(self, service: Service, proxy: HAProxy | None = None) -> None:
        self.port = proxy.port if proxy else service.port
        self.is_bare = proxy is None
        self._nowhere = f"{service.url}/nowhere"
        self._log = service.log
        self._read = len(self._log.read_bytes())

    def address(self) -> str:
        """A source address: the proxy limits the requests of each."""
        if self.is_bare:
            return "127.0.0.1"
        number = next(numbers)
        return f"127.{number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"

    def served(self) -> list[str]:
        """The ids of the requests served since the last call, in order."""
        # The one worker writes its lines in order, this one after those of earlier responses.
        last = secrets.token_hex(16)
        httpx.get(self._nowhere, headers={"X-Request-ID": last}, timeout=10)
        with self._log.open("rb") as log:
            log.seek(self._read)
            written = b""
            ends_at = time.monotonic() + 30
            while last.encode() not in written or not written.endswith(b"\n"):
                assert time.monotonic() < ends_at
                # Many thousand cases would wait for the 50 ms of ``until`` each.
                time.sleep(0.001)
                written += log.read()
            self._read = log.tell()
        lines = map(json.loads, written.splitlines())
        return [line["request_id"] for line in lines if "status" in line][:-1]


@pytest.fixture(scope="module")
def behind(
    serve: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with (
        serve(web_concurrency=1, trusted_proxies=1) as service,
        HAProxy(tmp_path_factory.mktemp("haproxy"), [service.port]) as proxy,
    ):
        yield Front(service, proxy)


@pytest.fixture(scope="module")
def front(serve: Callable[..., Service]) -> Iterator[Front]:
    with serve(web_concurrency=1) as service:
        yield Front(service)


class Outcomes:
    """The outcomes of all cases of a kind."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.n = 0
        self.failures: list[str] = []
        self.slowest = 0.0

    def send(
        self, name: str, request: bytes, right: Callable[[Exchange], bool], responses: int
    ) -> None:
        ways = range(1, ROUNDS + 1)
        # A short run draws one: a connection takes tens of milliseconds.
        for pieces in ways if ROUNDS > 2 else random.sample(ways, 1):
            exchange = converse(self._front, request, pieces, responses)
            logged = self._front.served()
            self.n += 1
            self.slowest = max(self.slowest, exchange.seconds)
            if exchange.seconds > SECONDS:
                exchange.wrong.append(f"{exchange.seconds:.1f} s")
            if self._front.is_bare:
                in_order = logged == exchange.ids
            else:  # The proxy alone responds to some.
                received = iter(exchange.ids)
                in_order = all(one in received for one in logged)
            if not in_order:
                exchange.wrong.append(f"ids {exchange.ids} received and {logged} logged")
            if exchange.wrong or not right(exchange):
                self.failures.append(f"{name} in {pieces}: {exchange}")

    def judge(self, claim: str) -> None:
        figures = f"{ROUNDS} ways to cut each; the slowest {self.slowest:.2f} s"
        ledger.record(claim, n=self.n, failures=len(self.failures), figures=figures)
        assert not self.failures, "\n".join(self.failures)


@pytest.fixture
def outcomes(front: Front) -> Outcomes:
    return Outcomes(front)


def test_there_are_at_least_sixty_cases() -> None:
    assert len(REFUSED) + len(LAST) + len(UNDERSTOOD) + len(CUT) >= 60


def one_refusal(exchange: Exchange) -> bool:
    return len(exchange.statuses) == 1 and 400 <= exchange.statuses[0] < 500


def test_an_ambiguous_request_is_refused_and_the_connection_closed(outcomes: Outcomes) -> None:
    """Guards: ``REQUEST_LINE``, ``NO_TRAILERS`` and ``judge`` in framing.py, and llhttp."""
    for name, request in REFUSED.items():
        outcomes.send(name, request + VICTIM, one_refusal, responses=1)
    outcomes.judge("An ambiguous request is refused with one 4xx, and nothing behind it is read")


def test_a_lenient_parser_is_noticed(serve: Callable[..., Service]) -> None:
    """The twin: llhttp alone, without the service's own checks."""
    lenient = Path(__file__).with_name("lenient.conf.py")
    with serve(web_concurrency=1, GUNICORN_CMD_ARGS=f"-c {lenient}") as service:
        for name in ("the line GET  /nowhere HTTP/1.1", "two hosts", "two content types"):
            outcomes = Outcomes(Front(service))
            outcomes.send(name, REFUSED[name] + VICTIM, one_refusal, responses=1)
            assert outcomes.failures, name


def test_a_body_ends_at_its_declared_end(outcomes: Outcomes) -> None:
    """Each case has its expected responses, and the request behind it has its own."""
    for name, (request, statuses) in UNDERSTOOD.items():
        wanted = [*statuses, 404]
        outcomes.send(
            name,
            request + VICTIM,
            lambda exchange, wanted=wanted: (
                exchange.statuses == wanted
                and exchange.ids[-1] == "victim"
                and "smuggled" not in exchange.ids
            ),
            responses=len(wanted),
        )
    for name, (request, statuses) in LAST.items():
        outcomes.send(
            name,
            request + VICTIM,
            lambda exchange, wanted=statuses: exchange.statuses == wanted,
            responses=len(statuses),
        )
    outcomes.judge("A valid request has its own response, and so has the one behind it")


def test_a_truncated_request_is_not_executed(outcomes: Outcomes) -> None:
    """Guard: ``Framing``, which makes requests of whole bodies only."""
    for name, request in CUT.items():
        outcomes.send(
            name,
            request,
            lambda exchange: (
                all(status == 100 or 400 <= status < 500 for status in exchange.statuses)
                and 422 not in exchange.statuses
            ),
            responses=0,
        )
    outcomes.judge("A truncated request is refused, wherever it ends")


@needs_haproxy
def test_the_proxy_and_the_service_parse_alike(behind: Front) -> None:
    """The shipped proxy refuses, rewrites or forwards; the next client has its own response.

    The proxy keeps and shares its connections to the service: a response left over on one would go
    to the next client. All responses of the service must come back, in the same order.
    """
    outcomes = Outcomes(behind)
    cases = {**REFUSED, **CUT} | {name: case for name, (case, _) in (UNDERSTOOD | LAST).items()}
    next_one = VICTIM.replace(b"victim", b"next")
    for name, request in cases.items():
        outcomes.send(name, request + VICTIM, no_server_error, responses=0)
        outcomes.send(
            f"after {name}",
            next_one,
            lambda exchange: exchange.statuses == [404] and exchange.ids == ["next"],
            responses=1,
        )
    outcomes.judge("Behind the shipped proxy, every response of the service goes to its own client")


def no_server_error(exchange: Exchange) -> bool:
    return all(status < 500 for status in exchange.statuses)
