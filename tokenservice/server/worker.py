"""gunicorn's worker for this service: one thread reads, runs and writes, and waits for nobody.

It takes requests in whole. Those that are quick it runs itself, and the others on a few threads.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import random
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from gunicorn.config import Config
from gunicorn.workers import base

from tokenservice.server.bounds import bounds_of, raise_limit_of_files, unsupported
from tokenservice.server.connection import LINGER_SECONDS, Connection
from tokenservice.server.door import Door
from tokenservice.server.framing import Framing
from tokenservice.server.listeners import LEFT_TO_OTHERS_SECONDS, Balance, Listeners
from tokenservice.server.pool import BUSY_SECONDS, Job, Patience, Pool
from tokenservice.server.refusals import Shedding, refusal
from tokenservice.server.request import Fields, Request
from tokenservice.server.wsgi import Answer, answer_of, call, environ_of, fixed_environ
from tokenservice.web.bodies import MAX_BODY_BYTES

#: The most logins and registrations that wait for a hash. They wait in a queue of their own, which
#: is bounded by time; beyond so many they wait for a thread first.
HASHING_THREADS = 64
#: The time for which quick requests are run before the sockets are looked at again.
SLICE_SECONDS = 0.01
#: The longest wait of a quick request, after a moment in which the loop or Redis stood still.
QUICK_BURST_SECONDS = 0.5
#: The time between two looks at the deadlines, and the most connections that expire in one.
SWEEP_SECONDS, MOST_EXPIRED = 0.25, 10
#: The time after which a thread of the pool gives way to the loop. With Python's 5 ms, eight busy
#: threads kept it from its sockets, and under overload hardly a response came in time.
SWITCH_SECONDS = 0.0005
#: Among more ready sockets than these, the threads of the pools begin nothing, and then have the
#: processor for this part of the time that the sockets took.
CROWD, CROWD_PAUSE = 32, 0.5


class Worker(base.Worker):
    """A worker process.

    :ivar resting: the open connections whose request is not being answered, the longest unchanged
        first
    """

    alive: bool
    balance = Balance()  # It is made before the fork.

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """End gunicorn at its start if it is told to do what this worker does not."""
        if names := unsupported(cfg):
            sys.exit(f"{cls.__module__} does not support the settings: {', '.join(names)}.")

    def run(self) -> None:
        self.open()
        while self.alive:
            self.turn()
        self.leave()

    def open(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        self.selector = selectors.DefaultSelector()
        self.resting: dict[Connection, None] = {}
        self.connections: set[Connection] = set()
        self.most = raise_limit_of_files(self.cfg.worker_connections)
        self._bounds, self._believing = bounds_of(self.cfg, MAX_BODY_BYTES)
        self._inbox: deque[Job] = deque()
        self._door: Door | None = getattr(self.wsgi, "extensions", {}).get("Door")
        self._patience = Patience(QUICK_BURST_SECONDS)
        self._shedding = Shedding(self.refuse)
        self._may_begin = threading.Event()
        self._may_begin.set()
        shared = self.respond, self.wake, self._may_begin
        self._pool = Pool("pool", self.cfg.threads, *shared)
        self._hashing = Pool("hashing", HASHING_THREADS, *shared)
        self._pools = (self._pool, self._hashing)
        self._sleeps = False
        self._sweep_at = 0.0
        self.selector.register(self.PIPE[0], selectors.EVENT_READ, self._empty_pipe)
        many = self.cfg.workers > 1
        self._fixed = fixed_environ(self.sockets[0].getsockname(), sys.stderr, is_one_of_many=many)
        self.balance.join(self.age)
        self._listeners = Listeners(
            self.sockets, self.selector, self.balance, self.connections, self._accept
        )
        self._listeners.listen(True)

    def turn(self) -> None:
        """Do all that can be done now; if there is nothing, wait for it for a moment."""
        patience = SWEEP_SECONDS
        self._sleeps = True
        is_waiting = any(pool.waiting for pool in self._pools)
        self._listeners.is_busy = is_waiting or bool(self._inbox)
        if self._inbox or any(pool.finished for pool in self._pools):
            patience = 0
        elif self._listeners.takes_at < math.inf:
            patience = LEFT_TO_OTHERS_SECONDS
        elif is_waiting:
            patience = BUSY_SECONDS / 10
        ready = self.selector.select(patience)
        self._sleeps = False
        is_crowded = len(ready) > CROWD and any(pool.unfinished for pool in self._pools)
        with self._crowded() if is_crowded else contextlib.nullcontext():
            self._attend(ready)

    @contextlib.contextmanager
    def _crowded(self) -> Iterator[None]:
        """Let the threads of the pools begin nothing for the time of the block.

        Busy threads take the interpreter at each look at a socket. Of a flood without a proxy, and
        with Redis as a cluster, most requests waited unread until their clients had given up: at
        three times the capacity no response came in time. Now more than half of the capacity does.
        """
        began = time.monotonic()
        self._may_begin.clear()
        yield
        self._may_begin.set()
        time.sleep((time.monotonic() - began) * CROWD_PAUSE)

    def _attend(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Do what can be done now."""
        writable = []
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                writable.append(key)
            else:
                key.data(events)
        for pool in self._pools:
            pool.reply()
        self._run_inbox()
        # Long responses, for a moment and in another order each time.
        until = time.monotonic() + SLICE_SECONDS / 10
        random.shuffle(writable)
        for key in writable:
            key.data(selectors.EVENT_WRITE)
            if time.monotonic() > until:
                break
        now = time.monotonic()
        if now >= self._listeners.takes_at:
            self._listeners.take_what_is_left()
        for pool in self._pools:
            for job in pool.overdue(now):
                job.reply(self._shedding.answer(job.request))
        if now >= self._sweep_at:
            self._sweep(now)

    def leave(self) -> None:
        """Finish what has begun, and answer the requests that arrive at the last moment."""
        self._listeners.close()
        now = time.monotonic()
        for connection in self.resting:
            connection.hurry(now + LINGER_SECONDS)
        while (self.connections or any(pool.unfinished for pool in self._pools)) and (
            time.monotonic() < now + self.cfg.graceful_timeout
        ):
            self.turn()
        for connection in list(self.connections):
            connection.close()
        self.selector.close()

    # Connections.

    def _accept(self, listener: socket.socket) -> bool:
        """Take a connection, and close the one that has been unchanged for longest for it."""
        is_full = len(self.connections) >= self.most
        if is_full and not self.resting:
            # Until one of those whose request is being answered ends.
            self._listeners.listen(False)
            return False
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self.resting:
                next(iter(self.resting)).close()
            return False
        if is_full:
            next(iter(self.resting)).close()
        client.setblocking(False)
        # A socket of Unix has no address.
        peer = address[:2] if isinstance(address, tuple) else ("", 0)
        bounds = self._believing if self._is_trusted(peer[0]) else self._bounds
        self.connections.add(Connection(self, client, Framing(bounds, peer)))
        self.balance.tell(len(self.connections))
        return True

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - there is one worker in a process
    def _is_trusted(self, address: str) -> bool:
        """Whether this client is a proxy that may tell the scheme."""
        if not address or "*" in self.cfg.forwarded_allow_ips:
            return True
        found = ip_address(address.partition("%")[0])
        return any(found in network for network in self.cfg.forwarded_allow_networks())

    def idle_seconds(self) -> float:
        """The time that an idle connection is kept."""
        keepalive: float = self.cfg.keepalive
        return keepalive if self.alive else min(keepalive, LINGER_SECONDS)

    def rest(self, connection: Connection, seconds: float) -> None:
        """Wait for something of a client, for so long."""
        connection.deadline = time.monotonic() + seconds
        self.resting.pop(connection, None)
        self.resting[connection] = None

    def forget(self, connection: Connection) -> None:
        self.resting.pop(connection, None)
        self.connections.discard(connection)
        if self.alive:
            self.balance.tell(len(self.connections))
            self._listeners.listen(True)

    def _sweep(self, now: float) -> None:
        self.notify()
        if self.alive:
            self.balance.tell(len(self.connections))
        self._shedding.report()
        for pool in self._pools:
            pool.measure()
        overdue = [connection for connection in self.resting if connection.deadline <= now]
        for connection in overdue[:MOST_EXPIRED]:
            connection.expire()
        self._sweep_at = now + (SWEEP_SECONDS if len(overdue) <= MOST_EXPIRED else SLICE_SECONDS)
        if os.getppid() != self.ppid:
            self.log.info("Parent changed, shutting down: %s", self)
            self.alive = False

    # Requests.

    def arrived(self, connection: Connection, request: Request) -> None:
        """Let a whole request wait for its turn."""
        self.resting.pop(connection, None)
        now = time.monotonic()
        # The loop may have waited for long, for bytes or for the processor, with nothing to do.
        self._patience.learn(self._inbox, now)
        self._inbox.append(Job(request, now, connection.answer))
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _run_inbox(self) -> None:
        """Run the quick requests for a moment, and pass on the others."""
        until = time.monotonic() + SLICE_SECONDS
        while self._inbox:
            job = self._inbox.popleft()
            now = time.monotonic()
            if job.arrived < self._patience.end(self._inbox, now):
                job.reply(self._shedding.answer(job.request))
            elif answer := self._at_once(job):
                job.reply(answer)
                if now > until:
                    return
            else:
                self._pool_of(job).add(job)

    def _at_once(self, job: Job) -> Answer | None:
        """Answer what is quick; None where it has to wait for a thread."""
        if self._door is None:
            return None
        try:
            entered = self._door.enter(job.request)
            if entered is None or not self._door.is_quick(entered):
                return None
            job.begun = entered
            found = self._door.answer(entered, waits=False)
        except Exception as error:  # noqa: BLE001 - it is logged
            return self.refuse(error, job.request.headers, job.request.peer[0])
        return answer_of(found) if found else None

    def _pool_of(self, job: Job) -> Pool:
        is_hashing = self._door is not None and self._door.is_hashing(job.request)
        return self._hashing if is_hashing else self._pool

    def respond(self, job: Job) -> Answer:
        """Run the application, in a thread that may wait."""
        request = job.request
        try:
            entered = job.begun or (self._door and self._door.enter(request))
            if entered and self._door and (found := self._door.answer(entered, waits=True)):
                return answer_of(found)
            return call(self.wsgi, environ_of(request, self._fixed))
        except Exception as error:  # noqa: BLE001 - it is logged
            return self.refuse(error, request.headers, request.peer[0])

    def refuse(self, error: Exception, headers: Fields = (), peer: str = "") -> Answer:
        """The response to what is no request, or met a bug."""
        try:
            return refusal(self.wsgi, error, headers, peer)
        except Exception:
            self.log.exception("A refusal failed.")
            return Answer("500 Internal Server Error", [])

    # Between the threads.

    def wake(self) -> None:
        """End the wait of the loop, from another thread."""
        if self._sleeps:
            with contextlib.suppress(BlockingIOError):  # It is full, so the loop will wake.
                os.write(self.PIPE[1], b".")

    def _empty_pipe(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.PIPE[0], 4096)
