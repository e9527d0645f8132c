"""A thousand slow clients, and their effect on other clients."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.stage.people import Person, enrol
from tests.stage.service import Service
from tests.torture.children import child
from tests.torture.haproxy import HAProxy, changed, needs_haproxy, problem, raw_response
from tests.torture.ledger import FULL, record, trials
from tests.torture.load import Plan, during
from tests.torture.slow_clients import KINDS, attack
from tests.torture.witness import witness

SOCKETS = 1_000
POST = b"POST /token/create HTTP/1.1\r\nHost: service\r\n"


@pytest.fixture(scope="module")
def someone(service: Service) -> Person:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        return enrol(http.post)


def check_beside(claim: str, port: int, kinds: list[str], someone: Person, full: int) -> None:
    """Slow clients of these kinds fail or delay no request of others, in ``full`` seconds."""
    plan = Plan(port, someone.headers["Authorization"], rate=50, connections=100)
    seconds = trials(full, 2)
    without = during(plan, seconds)
    with child(attack, port, kinds, SOCKETS) as slow:
        time.sleep(1)  # Until all of them are connected.
        beside = during(plan, seconds)
        held = slow.end()
    p99, baseline = beside.percentile(0.99), without.percentile(0.99)
    failures = beside.total - beside.successes()
    record(
        f"{claim.format(f'{SOCKETS:,}')} fail or delay no request of others",
        n=beside.total,
        failures=failures,
        figures=f"p99 {p99 * 1000:.0f} ms beside them, {baseline * 1000:.0f} ms without; "
        f"{held} of them there at each time, on average",
    )
    assert held > SOCKETS / 2
    assert not failures, (beside.responses, beside.failed)
    assert p99 < (2 * baseline if FULL else 2 + 10 * baseline)


@needs_haproxy
def test_slow_clients_do_not_slow_the_others(
    service: Service, someone: Person, tmp_path: Path
) -> None:
    """Guard: ``option http-buffer-request`` in haproxy.cfg, which the next test takes out."""
    with HAProxy(tmp_path, [service.port]) as proxy:
        check_beside("Behind the proxy, {} slow clients", proxy.port, [*KINDS], someone, 60)


@needs_haproxy
def test_a_slow_request_never_reaches_the_service(tmp_path: Path) -> None:
    """Guard: ``option http-buffer-request``; without it an incomplete body passes."""
    slow = {
        "headers": POST + b"X-Half: ",
        "body": POST + b"Content-Length: 100\r\n\r\nhalf",
        "nothing": b"",
    }
    seconds = trials(5)
    as_long = ("timeout http-request 5s", f"timeout http-request {seconds}s")
    whole = changed(tmp_path / "whole.cfg", as_long)
    without = changed(tmp_path / "without.cfg", as_long, ("option http-buffer-request\n", "\n"))
    with (
        witness() as seen,
        HAProxy(tmp_path / "whole", [seen.port], whole) as proxy,
        witness() as seen_without,
        HAProxy(tmp_path / "without", [seen_without.port], without) as unbuffered,
        ThreadPoolExecutor(4) as threads,
        socket.create_connection(("127.0.0.1", unbuffered.port), 5) as passing,
    ):
        started = time.monotonic()
        passing.sendall(slow["body"])
        responses = {
            name: threads.submit(raw_response, proxy.port, half) for name, half in slow.items()
        }
        for response in responses.values():
            assert response.result().startswith(b"HTTP/1.1 408")
        assert seconds <= time.monotonic() - started < seconds + 10
        assert problem(responses["body"].result()) == (408, "bad_request")
        assert seen.paths == []
        assert seen_without.paths == ["/token/create"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_proxy_they_do_not_slow_the_others_either(
    kind: str, service: Service, someone: Person
) -> None:
    """Guards: ``Framing``, which makes requests of whole ones only, and ``Connection._send``."""
    check_beside(f"Without a proxy, {{}} clients ({kind})", service.port, [kind], someone, 30)
