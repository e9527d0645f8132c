"""A load generator in its own process: its rate does not drop when responses are slow."""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

from tests.torture.children import child

RETRY_AFTER = re.compile(rb"\r\nretry-after: *\d", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TOKEN = re.compile(rb'"token": ?"([^"]+)"')


@dataclass(frozen=True)
class Plan:
    """The clients and their rate. Each second request validates a token that another created.

    :param rate: requests a second, whatever their outcome; None for ``connections`` clients that
        send the next request as soon as they have a response
    :param connections: the most connections at a time
    :param addresses: the number of loopback addresses of the clients
    :param again: the part of the validates that present a consumed token
    :param requests: the total; None for as many as the time allows
    :param life: the life of the tokens, in seconds
    :param patience: the seconds after which a client gives up
    """

    port: int
    authorization: str = field(repr=False)
    rate: float | None = None
    connections: int = 16
    addresses: int = 1
    again: float = 0.0
    requests: int | None = None
    life: int = 60
    patience: float = 5.0


@dataclass
class LoadResult:
    """The result of a load. Times are seconds; ``began`` and ``asked`` by the monotonic clock.

    :ivar responses: the number of responses of each path and status
    :ivar failed: the number of requests without a response, by reason
    :ivar silent: refusals (429, 503) without Retry-After
    :ivar late: the longest delay of a request after its due time, caused by the generator
    :ivar asked: for each response the due time of its request; ``took`` and ``status`` likewise
    """

    began: float = 0.0
    ended: float = 0.0
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    silent: int = 0
    late: float = 0.0
    asked: array[float] = field(default_factory=lambda: array("d"))
    took: array[float] = field(default_factory=lambda: array("d"))
    status: array[int] = field(default_factory=lambda: array("H"))

    @property
    def total(self) -> int:
        return sum(self.responses.values()) + sum(self.failed.values())

    def statuses(self) -> Counter[int]:
        counted: Counter[int] = Counter()
        for (_, status), count in self.responses.items():
            counted[status] += count
        return counted

    def successes(self) -> int:
        return sum(count for status, count in self.statuses().items() if status < 300)

    def refusals(self) -> int:
        return self.statuses()[429] + self.statuses()[503]

    def others(self) -> int:
        """Requests with neither a success nor a refusal with Retry-After."""
        return self.total - self.successes() - self.refusals() + self.silent

    def percentile(self, part: float) -> float:
        """The longest time of the fastest ``part`` of the successes; infinity without any."""
        times = sorted(t for t, status in zip(self.took, self.status, strict=True) if status < 300)
        return times[min(len(times) - 1, int(part * len(times)))] if times else float("inf")

    def goodput(
        self, since: float = 0.0, until: float = float("inf"), within: float = 1.0
    ) -> float:
        """Successes a second that took at most ``within``, of the requests due from ``since`` to
        ``until``, in seconds from the beginning."""
        seen = zip(self.asked, self.took, self.status, strict=True)
        good = sum(
            status < 300 and took <= within and since <= asked - self.began < until
            for asked, took, status in seen
        )
        return good / (min(until, self.ended - self.began) - since)


class Client:
    """One connection: connecting, idle, or waiting for the response to ``path``."""

    def __init__(self, port: int, address: str) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((address, 0))
        self.socket.connect_ex(("127.0.0.1", port))
        self.path = ""
        self.due = 0.0
        self.unsent = b""
        self.received = b""


class Crowd:
    """All clients of a plan, in one loop."""

    def __init__(self, plan: Plan, orders: Pipe) -> None:
        self.plan = plan
        self.orders = orders
        self.result = LoadResult()
        self.events = selectors.DefaultSelector()
        self.clients: set[Client] = set()
        self.idle: deque[Client] = deque()
        self.unused: deque[str] = deque()
        self.used: deque[str] = deque(maxlen=100)
        self.number = 0
        self.create = json.dumps({"expires_in": plan.life})

    def run(self) -> LoadResult:
        self.events.register(self.orders, selectors.EVENT_READ)
        self.result.began = due = time.monotonic()
        pause = 1 / self.plan.rate if self.plan.rate else 0.0
        swept = due
        while True:
            now = time.monotonic()
            if self.number == self.plan.requests:
                return self.finish()
            if pause:
                while due <= now and self.ask(due):
                    self.result.late = max(self.result.late, now - due)
                    due += pause
            else:
                while (
                    len(self.clients) - len(self.idle) < self.plan.connections
                    and self.number != self.plan.requests
                ):
                    self.ask(now)
            if now - swept > 0.5:
                swept = now
                for client in [
                    c for c in self.clients if c.path and now - c.due > self.plan.patience
                ]:
                    self.drop(client, "gave up")
            wait = max(0.0, due - time.monotonic()) if pause else 0.1
            for key, mask in self.events.select(min(wait, 0.1)):
                if key.fileobj is self.orders:
                    return self.finish()
                self.attend(key.data, mask)

    def finish(self) -> LoadResult:
        """Wait for the requests in flight, then close everything."""
        self.result.ended = time.monotonic()
        self.events.unregister(self.orders)
        while busy := [client for client in self.clients if client.path]:
            for key, mask in self.events.select(0.1):
                self.attend(key.data, mask)
            for client in busy:
                if client.path and time.monotonic() - client.due > self.plan.patience:
                    self.drop(client, "gave up")
        for client in self.clients:
            client.socket.close()
        self.events.close()
        return self.result

    def ask(self, due: float) -> bool:
        """Send a request; False if all connections are busy."""
        if self.idle:
            # Mostly the longest idle, which the server may be about to close. Now and then the most
            # recently used: seldom enough for haproxy.cfg, which limits the requests of an address.
            client = self.idle.popleft() if self.number % 8 else self.idle.pop()
        elif len(self.clients) < self.plan.connections:
            address = f"127.0.1.{1 + len(self.clients) % self.plan.addresses}"
            client = Client(self.plan.port, address)
            self.clients.add(client)
            self.events.register(client.socket, selectors.EVENT_WRITE, client)
        else:
            return False
        client.path, body = self.request()
        client.due = due
        client.unsent = (
            f"POST {client.path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
            f"Authorization: {self.plan.authorization}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        if self.events.get_key(client.socket).events == selectors.EVENT_READ:
            self.attend(client, selectors.EVENT_WRITE)
        return True

    def request(self) -> tuple[str, str]:
        """The path and the body of the next request."""
        self.number += 1
        if self.number % 2:
            return "/token/create", self.create
        if self.used and self.number / 2 * self.plan.again % 1 < self.plan.again:
            return "/token/validate", json.dumps({"token": self.used[0]})
        if not self.unused:
            return "/token/create", self.create
        self.used.append(self.unused.popleft())
        return "/token/validate", json.dumps({"token": self.used[-1]})

    def attend(self, client: Client, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                sent = client.socket.send(client.unsent)
                client.unsent = client.unsent[sent:]
                self.events.modify(
                    client.socket,
                    selectors.EVENT_WRITE if client.unsent else selectors.EVENT_READ,
                    client,
                )
            if mask & selectors.EVENT_READ:
                part = client.socket.recv(65_536)
                client.received += part
                if not part:
                    self.drop(client, "hung up")
                else:
                    self.read(client)
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(client, type(error).__name__)

    def read(self, client: Client) -> None:
        head, ended, body = client.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not ended or len(body) < int(length[1] if length else 0):
            return
        status = int(head[9:12])
        result = self.result
        result.responses[client.path, status] += 1
        result.asked.append(client.due)
        result.took.append(time.monotonic() - client.due)
        result.status.append(status)
        result.silent += status in (429, 503) and not RETRY_AFTER.search(head)
        if status == 201 and (created := TOKEN.search(body)):
            self.unused.append(created[1].decode())
        client.path, client.received = "", b""
        if b"\r\nconnection: close" in head.lower():
            self.drop(client, "")
        else:
            self.idle.append(client)

    def drop(self, client: Client, why: str) -> None:
        if client.path:
            self.result.failed[why] += 1
        elif client in self.idle:
            self.idle.remove(client)
        self.events.unregister(client.socket)
        client.socket.close()
        self.clients.discard(client)


def crowd(orders: Pipe, plan: Plan) -> LoadResult:
    return Crowd(plan, orders).run()


def during(plan: Plan, seconds: float) -> LoadResult:
    """Run a plan for so many seconds."""
    with child(crowd, plan) as clients:
        time.sleep(seconds)
        result: LoadResult = clients.end()
        return result
