"""Clients that do not read their responses, and their effect on other clients."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.stage.people import Person, enrol
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.haproxy import HAProxy, changed, needs_haproxy, raw_response
from tests.torture.ledger import FULL, record, trials
from tests.torture.load import Plan, during

pytestmark = needs_haproxy

PER_ADDRESS = 16
AT_ONCE = 3  # readers whose response has not begun; more would wait in the proxy's queue, for 1 s
addresses = itertools.count(1)
BUFFER = 31_000  # bytes of a response that the proxy buffers, without any read of the client
GET = "GET {} HTTP/1.1\r\nHost: service\r\n\r\n"
ID = "0" * 18
AUDIENCE = [f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 57}{n:02}.com" for n in range(16)]
TERMS = {
    "audience": AUDIENCE,
    "allow_unregistered": True,
    "subject": "\U0001f600" * 255,
    "purpose": "p" * 64,
}
BATCH = {**TERMS, "count": 100, "expires_in": 1}
MISTAKES = {
    "many names": {f"n{n}": 0 for n in range(1500)},
    "long names": {f"{n:0300}": 0 for n in range(50)},
    "many members": {"audience": [0] * 4000},
}
BUNDLE = "swagger-ui-bundle.js"
SPELLINGS = [
    f"/docs/assets/{BUNDLE}",
    f"/%64ocs/assets/{BUNDLE}",
    f"/%64%6F%63%73/%61ssets/{BUNDLE}",
    f"//docs/assets/{BUNDLE}",
    f"///docs/assets/{BUNDLE}",
    f"/%2Fdocs/assets/{BUNDLE}",
    f"/docs%2fassets/{BUNDLE}",
    f"/docs/assets/./{BUNDLE}",
    f"/docs/assets/x/%2e%2E/{BUNDLE}",
    f"/docs/assets/{BUNDLE}?/token/create",
    f"http://service/docs/assets/{BUNDLE}",
    f"x://service/%64ocs/assets/{BUNDLE}",
    "/openapi%2ejson",
]


@pytest.fixture(scope="module")
def real(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=2, trusted_proxies=1, max_active=100_000) as service:
        yield service


@pytest.fixture(scope="module")
def someone(real: Service) -> Person:
    with httpx.Client(base_url=real.url, timeout=30) as http:
        return enrol(http.post)


@pytest.fixture(scope="module")
def proxy(real: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    with HAProxy(tmp_path_factory.mktemp("haproxy"), [real.port]) as running:
        yield running


def post(path: str, given: object, person: Person) -> bytes:
    body = json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
        f"Authorization: {person.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def of_kind(kind: str, person: Person) -> list[bytes]:
    """Requests with a long response, or possibly one."""
    return {
        "documents": [GET.format(target).encode() for target in SPELLINGS],
        "batches": [post(path, BATCH, person) for path in ("/token/batch", "/token/b%61tch")],
        "mistakes": [post("/token/create", given, person) for given in MISTAKES.values()],
    }[kind]


def connection(port: int, address: str) -> socket.socket:
    """A connection with short segments, and so with small buffers in the kernel.

    On loopback the kernel would otherwise buffer megabytes.
    """
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    reader.settimeout(10)
    reader.bind((address, 0))
    reader.connect(("127.0.0.1", port))
    return reader


@contextlib.contextmanager
def unread(
    port: int, requests: Sequence[bytes], count: int, at_once: int = AT_ONCE
) -> Iterator[Counter[int]]:
    """Send ``requests`` in turn on ``count`` connections, and read no response.

    :param at_once: the most readers whose response has not begun
    :returns: the number of responses of each status
    """
    with contextlib.ExitStack() as held:
        readers: list[socket.socket] = []
        for number in range(count):
            if number % PER_ADDRESS == 0:
                address = f"127.0.4.{next(addresses)}"
            readers.append(held.enter_context(connection(port, address)))
            readers[-1].sendall(requests[number % len(requests)])
            if number >= at_once:
                beginning(readers[number - at_once])
        yield Counter(map(beginning, readers))


def beginning(reader: socket.socket) -> int:
    """The status of a response that has begun to arrive, peeked without a read."""
    return int(reader.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)[9:])


#: A short run has both counts with the largest responses, and each other kind with one count.
CELLS = [("documents", 32), ("documents", 100), ("batches", 100), ("mistakes", 32)]
CELLS += [("batches", 32), ("mistakes", 100)] if FULL else []


@pytest.mark.parametrize(("kind", "count"), CELLS)
def test_clients_that_do_not_read_delay_no_others(
    kind: str, count: int, proxy: HAProxy, someone: Person
) -> None:
    """Guards: the backend ``long`` of haproxy.cfg, and ``MOST_ERRORS``."""
    plan = Plan(proxy.port, someone.headers["Authorization"], rate=50, connections=100)
    requests = of_kind(kind, someone)
    closing = [
        request.replace(b"Host: service", b"Host: service\r\nConnection: close", 1)
        for request in requests
    ]
    without = during(plan, trials(8, 1)).percentile(0.99)
    with unread(proxy.port, requests, count) as statuses:
        # Shorter than the proxy's time limit for a read of the client.
        beside = during(plan, trials(8, 2))
        # Clients that send the same requests, and read.
        same = Counter(int(raw_response(proxy.port, request)[9:12]) for request in closing)
    failures = beside.total - beside.successes()
    p99 = beside.percentile(0.99)
    record(
        f"Behind the proxy, {count} clients that do not read their responses ({kind}) fail or "
        "delay no request of others",
        n=beside.total,
        failures=failures,
        figures=f"p99 {p99 * 1000:.0f} ms beside them, {without * 1000:.0f} ms without",
    )
    assert not failures, (beside.responses, beside.failed)
    assert p99 < (2 * without if FULL else 2 + 10 * without)
    assert set(statuses) == set(same) <= {200, 201, 422}, (statuses, same)


def test_without_the_long_backend_they_stop_the_others(
    real: Service, someone: Person, tmp_path: Path
) -> None:
    """The twin: without ``backend long`` the same clients block others."""
    straight = changed(
        tmp_path / "changed.cfg", ("default_backend long", "default_backend service")
    )
    with HAProxy(tmp_path, [real.port], straight) as proxy:
        plan = Plan(proxy.port, someone.headers["Authorization"], rate=20)
        with unread(proxy.port, of_kind("documents", someone), 32, at_once=8):
            beside = during(plan, 2)
    assert beside.statuses() == {503: beside.total}


def test_a_response_of_the_short_backend_fits_into_one_buffer(
    real: Service, someone: Person
) -> None:
    """For any request: a batch of errors, the longest terms, either language."""
    longest = {
        **TERMS,
        "expires_in": 60,
        "audience": [*AUDIENCE[:15], someone.id],
        "data": {"x": "é" * 2000},
    }
    with httpx.Client(base_url=real.url, headers=someone.headers, timeout=30) as client:
        responses = [
            client.post(path, json=given, headers={"Accept-Language": language})
            for path in ("/auth/register", "/auth/login", "/token/create", "/token/reserve")
            for given in MISTAKES.values()
            for language in ("es", "en")
        ]
        assert {response.status_code for response in responses} == {422}
        created = client.post("/token/create", json=longest)
        shown = {"token": created.json()["token"]}
        named = {**shown, "subject": TERMS["subject"], "purpose": TERMS["purpose"]}
        seen = client.post("/token/introspect", json=shown)
        held = client.post("/token/reserve", json=named)
        used = client.post("/token/commit", json={"reservation": held.json()["reservation"]})
        receipt = client.get(f"/token/{created.json()['id']}")
        responses += [created, seen, held, used, receipt]
    assert [response.status_code for response in responses[-5:]] == [201, 200, 200, 200, 200]
    assert max(len(response.content) for response in responses) < BUFFER - 2_000  # for the headers


def test_each_call_has_the_backend_of_its_response(
    real: Service, someone: Person, tmp_path: Path
) -> None:
    """Only paths as spelt in the contract have the short backend. Guard: ``is_short``."""
    document = httpx.get(f"{real.url}/openapi.json").json()
    calls = [
        (method.upper(), re.sub(r"\{\w+\}", ID, path))
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    ]
    # The backend goes by the path, so a new key takes the way of the list of keys.
    long = {("GET", "/token"), ("POST", "/token/batch"), ("GET", "/auth/sessions")}
    long |= {("GET", "/auth/keys"), ("POST", "/auth/keys")}
    long |= {("GET", "/openapi.json"), ("GET", "/problems"), ("GET", f"/problems/{ID}")}
    long |= {("GET", "/metrics")}  # It is refused before it has a way.
    assert long < set(calls)
    with HAProxy(tmp_path, [real.port]) as proxy:

        def way(method: str, target: str) -> str:
            """The server in the proxy's log line of this request."""
            before = len(proxy.lines())
            ask = f"{method} {target} HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"
            raw_response(proxy.port, ask.encode())
            until(lambda: len(proxy.lines()) > before)
            return str(proxy.lines()[before]["server"])

        ways = {call: way(*call) for call in calls}
        assert {call for call in calls if ways[call] != "service/one"} == long
        assert {way("GET", target) for target in SPELLINGS} == {"long/inside"}
        for other in ("//token/create", "/token/cre%61te", "/token/create/", "/token/Create", "/"):
            assert way("POST", other) == "long/inside"
        assert way("POST", "http://service/token/create?x=/docs") == "service/one"


def test_unread_responses_of_one_address_are_bounded(real: Service, tmp_path: Path) -> None:
    """On several connections, or on one of HTTP/2 that never opens its window."""
    target = f"/docs/assets/{BUNDLE}"
    ask = GET.format(target).encode()
    # All of them queue for the four places of the proxy before itself.
    waits = changed(tmp_path / "changed.cfg", ("timeout queue 1s", "timeout queue 9s"))
    with HAProxy(tmp_path, [real.port], waits) as proxy, contextlib.ExitStack() as opened:
        greedy = opened.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 10))
        greedy.sendall(streams(target, 60))
        blocks = [block for kind, block in frames(greedy, 62) if kind == 1]
        # In the static table (RFC 7541, appendix A) 200 is 0x88.
        assert sum(block[:1] == b"\x88" for block in blocks) == 32
        assert len(blocks) == 60
        # Another address has as many of its own.
        for number in range(34):
            reader = opened.enter_context(connection(proxy.port, "127.0.5.1"))
            reader.sendall(ask)
            assert beginning(reader) == (200 if number < 32 else 429)


def streams(target: str, count: int) -> bytes:
    """The bytes of an HTTP/2 connection (RFC 9113) with ``count`` requests, and a closed window."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (
            struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload
        )

    pseudo = {":method": "GET", ":scheme": "http", ":path": target, ":authority": "service"}
    pairs = [(name.encode(), value.encode()) for name, value in pseudo.items()]
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )
    no_window = frame(4, 0, 0, struct.pack("!HI", 4, 0))
    asked = b"".join(frame(1, 5, 2 * number + 1, block) for number in range(count))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_window + asked


def frames(connection: socket.socket, count: int) -> Iterator[tuple[int, bytes]]:
    """The kinds and the payloads of the next ``count`` frames."""
    for _ in range(count):
        head = connection.recv(9, socket.MSG_WAITALL)
        length = int.from_bytes(head[:3], "big")
        yield head[3], connection.recv(length, socket.MSG_WAITALL) if length else b""
