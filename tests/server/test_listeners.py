"""Several workers take their shares of the connections."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.server import listeners
from tokenservice.server.listeners import Balance

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LISTENS = "0A"  # The state of a listening socket.


@pytest.fixture
def service(serve: Callable[..., Service]) -> Iterator[Service]:
    # A machine may stand still for longer than connections are kept by default.
    with serve(web_concurrency=2, GUNICORN_CMD_ARGS="--keep-alive 60") as running:
        # Both are there, and the connection that waited for them is gone.
        until(lambda: not any(connections(running).values()))
        until(lambda: all(shares(running)))
        yield running


def connections(service: Service) -> dict[int, int]:
    """The connections of clients that each worker has."""
    own = f"{int(service.url.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(own) and row[3] != LISTENS}
    return {worker: len(ours & {*service.descriptors(worker)}) for worker in service.workers()}


@contextlib.contextmanager
def connected(service: Service, number: int) -> Iterator[dict[int, int]]:
    """So many connections, opened one right after the other; those of each worker."""
    address = "127.0.0.1", int(service.url.rpartition(":")[2])
    with contextlib.ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection(address, 10)) for _ in range(number)
        ]
        for client in clients:
            client.sendall(HEALTH)
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        yield connections(service)
    until(lambda: not any(connections(service).values()))


def shares(service: Service) -> list[int]:
    """The connections of each worker out of 20."""
    with connected(service, 20) as taken:
        assert sum(taken.values()) == 20
    return [*taken.values()]


def test_of_two_workers_each_takes_half_of_the_connections(service: Service) -> None:
    """Guard: ``Listeners._leaves_to_others``. Without it one often takes all of them.

    So does one where the other gets no processor for a moment.
    """
    found = [min(shares(service)) for _ in range(10)]
    assert sum(share >= 7 for share in found) >= 7, found


def test_a_worker_that_stands_still_leaves_its_share_to_the_other(service: Service) -> None:
    still, other = service.workers()
    os.kill(still, signal.SIGSTOP)
    try:
        with connected(service, 20) as taken:
            assert taken == {still: 0, other: 20}
    finally:
        os.kill(still, signal.SIGCONT)


def test_a_worker_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: ``GONE_SECONDS`` and ``leave``."""
    balance = Balance()
    balance.join(1)
    balance.join(2)
    assert balance.has_less(1)
    assert not balance.has_less(0)
    monkeypatch.setattr(listeners, "GONE_SECONDS", 0.05)
    time.sleep(0.1)
    assert not balance.has_less(1)
    balance.tell(0)
    assert balance.has_less(1)
    balance.leave()
    assert not balance.has_less(1)
