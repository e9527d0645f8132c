"""The load: keep-alive connections, a process each, that ask again as soon as they are answered."""

from __future__ import annotations

import json
import multiprocessing
import re
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

TIMEOUT = 10
LIFE = 600
TOKEN = re.compile(rb'"token": ?"([^"]+)"')


@dataclass(frozen=True)
class Calls:
    """A method and a path each."""

    create: str
    validate: str


@dataclass(frozen=True)
class Load:
    """``kind`` is pair (create, then validate what that gave), create, validate or bare.

    :param headers: those that tell who calls
    :param tokens: what validate presents, each once; it ends when there are no more
    """

    kind: str
    port: int
    seconds: float
    connections: int
    calls: Calls
    headers: str = field(repr=False)
    tokens: list[str] = field(repr=False, default_factory=list)


@dataclass
class Done:
    """``units`` are pairs for pair, else requests; ``tokens`` were created and not used up."""

    units: int = 0
    requests: int = 0
    seconds: float = 0.0
    tokens: list[str] = field(default_factory=list)


def run(load: Load) -> Done:
    """:raises SystemExit: with the first answer that was not the one it should be"""
    start = time.monotonic() + 0.1  # by then all processes are there
    with ProcessPoolExecutor(load.connections, multiprocessing.get_context("fork")) as pool:
        jobs = [pool.submit(drive, load, number, start) for number in range(load.connections)]
        parts = [job.result() for job in jobs]
    return Done(
        sum(part.units for part in parts),
        sum(part.requests for part in parts),
        max(part.seconds for part in parts),
        [token for part in parts for token in part.tokens],
    )


def drive(load: Load, number: int, start: float) -> Done:
    """One connection's part of the load."""
    done, connection = Done(), Connection(load)
    tokens = load.tokens[number :: load.connections]
    time.sleep(max(0.0, start - time.monotonic()))
    while done.seconds < load.seconds and (tokens or load.kind != "validate"):
        if load.kind == "bare":
            call, body = "GET /healthz", ""
        elif tokens:
            call, body = load.calls.validate, json.dumps({"token": tokens.pop()})
        else:
            call, body = load.calls.create, json.dumps({"expires_in": LIFE})
        answer = connection.ask(call, body)
        if answer[9:11] != b"20":
            raise SystemExit(f"Not a success, in {load}:\n{answer[:1000].decode()}")
        done.requests += 1
        done.seconds = time.monotonic() - start
        if call == load.calls.create:
            created = TOKEN.search(answer)
            assert created, answer
            (tokens if load.kind == "pair" else done.tokens).append(created[1].decode())
        if call != load.calls.create or load.kind == "create":
            done.units += 1
    return done


class Connection:
    """One HTTP/1.1 connection, opened again when the server has closed it."""

    def __init__(self, load: Load) -> None:
        self._address = ("127.0.0.1", load.port)
        self._headers = (
            f"Host: 127.0.0.1:{load.port}\r\n{load.headers}"
            "Content-Type: application/json\r\nContent-Length: "
        )
        self._socket: socket.socket | None = None

    def ask(self, call: str, body: str) -> bytes:
        """:returns: the whole answer, from the status line on"""
        if call.startswith("GET"):
            body = ""
        request = f"{call} HTTP/1.1\r\n{self._headers}{len(body)}\r\n\r\n{body}"
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request.encode())
        answer, missing = b"", 1
        while missing > 0:
            if not (more := self._socket.recv(65_536)):
                raise ConnectionError(f"The server hung up within its answer to {call}.")
            answer += more
            head, ended, rest = answer.partition(b"\r\n\r\n")
            if ended and b"transfer-encoding: chunked" in head.lower():
                missing = not rest.endswith(b"0\r\n\r\n")
            elif ended:
                length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
                missing = int(length) - len(rest)
        if b"connection: close" in head.lower():
            self._socket.close()
            self._socket = None
        return answer
