"""Single use is a property of concurrency: a sequential test passes on broken code."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.conftest import Person, Service, enrol

CALLERS, TOKENS = 32, 500


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Connection:
    """One keep-alive connection that can hold the last byte of a request back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def prepare(self, request: bytes) -> None:
        self._last = request[-1:]
        self._socket.sendall(request[:-1])

    def release(self) -> None:
        self._socket.sendall(self._last)

    def answer(self) -> tuple[int, dict[str, object]]:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        while len(body) < int(headers["content-length"]):
            body += self._socket.recv(65536)
        if headers.get("connection", "").lower() == "close":
            self._socket.close()
            self._connect()
        return int(lines[0].split()[1]), json.loads(body)

    def close(self) -> None:
        self._socket.close()


def race(
    connections: Sequence[Connection], requests: Sequence[bytes]
) -> Counter[tuple[int, object]]:
    """Send all requests at once, to the last byte; count the answers by status and code."""
    pairs = list(zip(connections, requests, strict=True))
    for connection, request in pairs:
        connection.prepare(request)
    for connection in connections:
        connection.release()
    answers = [connection.answer() for connection in connections]
    return Counter((status, body.get("code")) for status, body in answers)


def request(path: str, person: Person, body: object) -> bytes:
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
        f"Authorization: {person.headers['Authorization']}\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def test_of_32_callers_exactly_one_consumes_each_of_500_tokens(service: Service) -> None:
    """Guard: validate.lua is one atomic step; GET and then DELETE lets two callers win."""
    before = {pid: cpu_ticks(pid) for pid in service.workers()}
    with httpx.Client(base_url=service.url, timeout=30) as http:
        person = enrol(http.post)
        connections = [Connection(service.port) for _ in range(CALLERS)]
        for _ in range(TOKENS):
            created = http.post("/token/create", headers=person.headers, json={"expires_in": 60})
            call = request("/token/validate", person, {"token": created.json()["token"]})
            outcome = race(connections, [call] * CALLERS)
            assert outcome == {(200, None): 1, (409, "token_already_used"): CALLERS - 1}
    for connection in connections:
        connection.close()
    # The race was one between processes, and none of them died of it.
    busy = [pid for pid, ticks in before.items() if cpu_ticks(pid) - ticks > 20]
    assert len(busy) >= 2
    assert set(before) <= set(service.workers())
