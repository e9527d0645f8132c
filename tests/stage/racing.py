"""A race over the wire: requests held back by their last byte, and released at once."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.stage.people import Person
from tests.stage.service import Service


class Response(NamedTuple):
    status: int
    body: dict[str, Any]

    @property
    def kind(self) -> tuple[int, str | None]:
        """Its status, and the code of its problem if it is one."""
        return self.status, self.body.get("code")


class Connection:
    """One keep-alive connection that can hold the last byte of a request back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def prepare(self, request: bytes) -> None:
        # Readable between two requests means that the server closed an idle connection.
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if waiting.poll(0):
            self.close()
            self._connect()
        self._last = request[-1:]
        self._socket.sendall(request[:-1])

    def release(self) -> None:
        self._socket.sendall(self._last)

    def response(self) -> Response:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        while len(body) < int(headers.get("content-length", 0)):
            body += self._more()
        if headers.get("connection", "").lower() == "close":
            self.close()
            self._connect()
        return Response(int(lines[0].split()[1]), json.loads(body) if body else {})

    def _more(self) -> bytes:
        part = self._socket.recv(65536)
        assert part, "the service closed the connection of a request"
        return part

    def close(self) -> None:
        self._socket.close()


@contextmanager
def connected(services: Sequence[Service], count: int) -> Iterator[list[Connection]]:
    """Open ``count`` connections, spread evenly over ``services``."""
    opened: list[Connection] = []
    try:
        for number in range(count):
            opened.append(Connection(services[number % len(services)].port))
            # One worker that is awake would accept a burst of them before the others wake up.
            time.sleep(0.01)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def race(
    connections: Sequence[Connection], requests: Sequence[bytes], at: float = 0
) -> list[Response]:
    """Send all requests at once, to the last byte; return the responses in the requests' order.

    A request that the service sheds, as after a stall, is sent again: it was never begun.

    :param at: when to release the last bytes, in seconds since 1970; at once if that is past
    """
    for connection, request in zip(connections, requests, strict=True):
        connection.prepare(request)
    time.sleep(max(0, at - time.time()))
    for connection in connections:
        connection.release()
    found = [connection.response() for connection in connections]
    for place, connection in enumerate(connections):
        while found[place].kind == (503, "busy"):
            connection.prepare(requests[place])
            connection.release()
            found[place] = connection.response()
    return found


def request(path: str, person: Person, body: object, key: str = "") -> bytes:
    """Write a POST as it goes over the wire, with an idempotency key if there is one."""
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
        f"Authorization: {person.headers['Authorization']}\r\n"
        + (f"Idempotency-Key: {key}\r\n" if key else "")
        + f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload
