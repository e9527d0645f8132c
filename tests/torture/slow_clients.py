"""Many slow clients, in a process of their own."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from multiprocessing.connection import Connection as Pipe

#: The bytes that each kind of client sends at once, and then one by one, one a second.
KINDS = {
    "slow headers": (b"POST /token/create HTTP/1.1\r\nHost: service\r\n", b"X-Slow: yes\r\n" * 50),
    "silent": (b"", b""),
    "slow body": (
        b"POST /token/create HTTP/1.1\r\nHost: service\r\nContent-Length: 10000\r\n\r\n",
        b"a" * 10_000,
    ),
    "slow reader": (
        b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: service\r\n\r\n",
        b"",
    ),
    "never closes": (
        b"GET /healthz HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n",
        b"",
    ),
}
PER_ADDRESS = 40


class Client:
    def __init__(self, port: int, kind: str, number: int) -> None:
        self.first, self.rest = KINDS[kind]
        self.reads = 1 if kind == "slow reader" else 65_536
        self.lingers = kind == "never closes"
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if kind == "slow reader":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        self.socket.bind((f"127.0.2.{1 + number // PER_ADDRESS}", 0))
        self.socket.connect_ex(("127.0.0.1", port))

    def go_on(self) -> bool:
        """Send and receive the bytes of this second; False once the server has closed."""
        try:
            with contextlib.suppress(BlockingIOError):
                if not self.socket.recv(self.reads):
                    return self.lingers
            if self.first:
                self.first = self.first[self.socket.send(self.first) :]
            elif self.rest:
                self.rest = self.rest[self.socket.send(self.rest[:1]) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


def attack(orders: Pipe, port: int, kinds: list[str], count: int) -> int:
    """Keep ``count`` clients connected, of ``kinds`` in turn, and replace those disconnected.

    :returns: the mean number of clients that were not disconnected within a second
    """
    held: list[int] = []
    clients: dict[int, Client] = {}
    while True:
        started = time.monotonic()
        there = 0
        for number in range(count):
            client = clients.get(number)
            if client and client.go_on():
                there += 1
                continue
            if client:
                client.socket.close()
            client = clients[number] = Client(port, kinds[number % len(kinds)], number)
            with contextlib.suppress(OSError):
                client.go_on()
        held.append(there)
        if orders.poll(max(0.0, 1 - (time.monotonic() - started))):
            break
    for client in clients.values():
        client.socket.close()
    return round(statistics.mean(held[1:]))  # At first there are none.
