"""The threads for requests that may wait for something slow, and the queue before them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from tokenservice.server.request import Request
from tokenservice.server.wsgi import Answer
from tokenservice.telemetry import metrics

#: The longest wait in a queue that does not become empty, and so would only grow longer. Where a
#: request takes long, as with a Redis that is far, it is so many times that, up to the third.
BUSY_SECONDS, BUSY_TIMES, MOST_BUSY_SECONDS = 0.1, 8, 0.5
#: The longest wait in a burst, which ends by itself: 40 logins at once take a second.
BURST_SECONDS = 2.0


class Patience:
    """How long a request may wait: until its client gives up, but not so long under overload.

    A queue that was empty within the last ``burst`` seconds holds a burst. Else more arrives than
    can be served, and with a long wait every response would be late.
    """

    def __init__(self, burst: float) -> None:
        self._burst = burst
        self._empty_at = time.monotonic()

    def learn(self, queue: Sized, now: float) -> None:
        """Take into account whether a request waits now."""
        if not queue:
            self._empty_at = now

    def end(self, queue: Sized, now: float, takes: float = 0.0) -> float:
        """The time of arrival before which a request of ``queue`` has waited for too long.

        :param takes: the seconds that a request takes
        """
        self.learn(queue, now)
        is_burst = now - self._empty_at < self._burst
        busy = min(max(BUSY_SECONDS, BUSY_TIMES * takes), MOST_BUSY_SECONDS)
        return now - (self._burst if is_burst else busy)


@dataclass(slots=True, eq=False)
class Job:
    """A request that waits, or runs.

    :ivar reply: takes the answer, in the thread of the loop
    :ivar begun: what the door knows of it, if the loop has begun with it
    """

    request: Request
    arrived: float
    reply: Callable[[Answer], None]
    answer: Answer | None = None
    begun: Any = None


class Pool:
    """Threads that take the oldest job each, started as they are needed.

    A job that waits for too long is given up, and never begun.

    :param most: the number of threads
    :param run: answers a request
    :param wake: called by a thread once there are answers to collect
    :param may_begin: cleared while no job is to be begun
    """

    def __init__(
        self,
        name: str,
        most: int,
        run: Callable[[Job], Answer],
        wake: Callable[[], None],
        may_begin: threading.Event,
    ) -> None:
        self._name, self._most, self._run, self._wake = name, most, run, wake
        self._may_begin = may_begin
        self._started = 0
        self.waiting: deque[Job] = deque()
        self.finished: deque[Job] = deque()
        self.unfinished = 0
        self._patience = Patience(BURST_SECONDS)
        self._takes = 0.0  # The mean time of a job, in seconds.
        # One ticket for each job, and some more: a thread whose job was given up finds none.
        self._tickets: SimpleQueue[None] = SimpleQueue()

    def add(self, job: Job) -> None:
        self.unfinished += 1
        self._patience.learn(self.waiting, time.monotonic())
        self.waiting.append(job)
        self._tickets.put(None)
        if self._started < min(self._most, self.unfinished):
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._tickets.get()
            self._may_begin.wait()
            if job := self._take():
                began = time.monotonic()
                job.answer = self._run(job)
                self._takes += (time.monotonic() - began - self._takes) / 16
                self.finished.append(job)
                self._wake()

    def reply(self) -> None:
        """Give the answers of the finished jobs to their owners."""
        while self.finished:
            job = self.finished.popleft()
            self.unfinished -= 1
            assert job.answer
            job.reply(job.answer)

    def overdue(self, now: float) -> Iterator[Job]:
        """Take the jobs that waited for too long."""
        end = self._patience.end(self.waiting, now, self._takes)
        while job := self._take():
            if job.arrived >= end:
                self.waiting.appendleft(job)
                self._tickets.put(None)
                return
            self.unfinished -= 1
            yield job

    def measure(self) -> None:
        """Report the threads and the queue, as they are now."""
        waiting = len(self.waiting)
        busy = min(self._most, max(0, self.unfinished - waiting - len(self.finished)))
        metrics.labelled(metrics.THREADS, self._name).set(self._most)
        metrics.labelled(metrics.THREADS_BUSY, self._name).set(busy)
        metrics.labelled(metrics.THREADS_AWAITED, self._name).set(waiting)

    def _take(self) -> Job | None:
        try:
            return self.waiting.popleft()
        except IndexError:
            return None
