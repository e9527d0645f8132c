"""Any bytes on a real connection: no crash, no hang, and the same however they are cut."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.streams import STREAMS, cut
from tests.stage.service import Service

#: ``STREAM_EXAMPLES=50000`` searches for about ten minutes.
EXAMPLES = int(os.environ.get("STREAM_EXAMPLES", "100"))


@pytest.fixture(scope="module")
def alone(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=1) as running:
        yield running


def statuses(service: Service, pieces: list[bytes]) -> list[bytes]:
    """The status line of each response, until the service closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.0005 if len(pieces) > 1 else 0)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                received += part
        except (BrokenPipeError, ConnectionResetError):
            pass  # It was refused, and the rest was not read.
    return [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.")]


@pytest.mark.slow
def test_responses_are_the_same_however_the_bytes_are_cut(alone: Service) -> None:
    workers = alone.workers()

    @settings(max_examples=EXAMPLES, database=None)
    @given(STREAMS, st.lists(st.integers(0, 5000), max_size=6))
    def search(stream: bytes, places: list[int]) -> None:
        whole = statuses(alone, [stream])
        assert statuses(alone, cut(stream, places)) == whole
        assert not any(line[9:10] == b"5" for line in whole)

    search()
    assert alone.workers() == workers
    assert httpx.get(f"{alone.url}/healthz").status_code == 200
