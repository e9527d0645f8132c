"""The listening sockets of a worker, and its share of the connections.

The kernel wakes every worker for a connection, and the quickest takes it: of 16 connections one of
two workers often took all, and they served no more than one alone.
"""

from __future__ import annotations

import math
import mmap
import selectors
import socket
import time
from collections.abc import Callable, Sequence, Sized
from functools import partial
from ipaddress import IPv6Address, ip_address

#: Connections accepted at a time: more would leave none to the other workers. A worker in which
#: requests wait takes more, because what is not accepted waits too, and nobody sees for how long.
ACCEPTED_AT_ONCE, ACCEPTED_IF_BUSY = 4, 256
#: The time for a worker with fewer connections to take one, before this worker does.
LEFT_TO_OTHERS_SECONDS = 0.002
#: The bytes that the kernel takes for a client before that has acknowledged the ones before.
UNSENT_BYTES = 128 * 1024
#: Room for the workers that live at the same time. Of more, some share a place and are one.
PLACES = 64
#: A worker that has not said its count for this long is gone, or stands still.
GONE_SECONDS = 1.0


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches a socket: at a loopback address, or as a path."""
    if listener.family == socket.AF_UNIX:
        return True
    address = ip_address(listener.getsockname()[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


class Balance:
    """The count of each worker and the time of it, in memory that forks share.

    Each worker writes its own place, and a wrong count only delays a connection for a moment.
    """

    def __init__(self) -> None:
        self._shared = memoryview(mmap.mmap(-1, PLACES * 16)).cast("d")
        self._mine = 0

    def join(self, number: int) -> None:
        """Take a place, as the worker that is started after so many others."""
        self._mine = number % PLACES * 2
        self.tell(0)

    def tell(self, count: int) -> None:
        """Tell the others the number of this worker's connections."""
        self._shared[self._mine] = count
        self._shared[self._mine + 1] = time.monotonic()

    def leave(self) -> None:
        self._shared[self._mine + 1] = 0.0

    def has_less(self, count: int) -> bool:
        """Whether another worker has fewer connections than ``count``, and can take one."""
        counts = self._shared.tolist()
        since = time.monotonic() - GONE_SECONDS
        return any(
            other < count and at > since
            for other, at in zip(counts[::2], counts[1::2], strict=True)
        )


class Listeners:
    """The sockets that a worker listens on.

    :param connections: its connections
    :param accept: takes a connection from a socket, and tells whether there was one
    :ivar takes_at: the time to take what was left to other workers
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        balance: Balance,
        connections: Sized,
        accept: Callable[[socket.socket], bool],
    ) -> None:
        self._sockets, self._selector, self._balance = sockets, selector, balance
        self._connections, self._accept = connections, accept
        self._listens = self.is_busy = False
        self.takes_at = math.inf
        for listener in sockets:
            listener.setblocking(False)
            if hasattr(socket, "TCP_NOTSENT_LOWAT") and listener.family != socket.AF_UNIX:
                # Its connections inherit it. The kernel would keep megabytes for a slow reader.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def listen(self, listens: bool) -> None:
        if listens != self._listens:
            self._listens = listens
            for listener in self._sockets:
                if listens:
                    accept = partial(self._on_event, listener)
                    self._selector.register(listener, selectors.EVENT_READ, accept)
                else:
                    self._selector.unregister(listener)

    def take_what_is_left(self) -> None:
        """Take the connections that no other worker took, and listen again."""
        self.takes_at = math.inf
        self.listen(True)
        for listener in self._sockets:
            self._take_from(listener)

    def close(self) -> None:
        """Take what has arrived, and no more."""
        self._balance.leave()
        self.takes_at = math.inf
        for listener in self._sockets:
            while self._accept(listener):
                pass
        self.listen(False)
        for listener in self._sockets:
            listener.close()

    def _on_event(self, listener: socket.socket, _: int) -> None:
        if not self._leaves_to_others():
            self._take_from(listener)

    def _take_from(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_IF_BUSY if self.is_busy else ACCEPTED_AT_ONCE):
            if not self._accept(listener) or self._leaves_to_others():
                return

    def _leaves_to_others(self) -> bool:
        """Leave a connection to a worker that has fewer, and take it only if none does."""
        count = len(self._connections)
        # Among busy workers that wait for each other, connections would wait with nobody.
        if not self._balance.has_less(count - count // (4 if self.is_busy else 16)):
            return False
        self.takes_at = min(self.takes_at, time.monotonic() + LEFT_TO_OTHERS_SECONDS)
        self.listen(False)
        return True
