"""Turns of the requests of one process.

Python runs one thread at a time anyway. But at each system call, twenty times a request, it
switches to another thread, and switching that often costs half as much as the work.
"""

from __future__ import annotations

import threading
import time
from collections import deque

#: The longest turn while others wait: several times the usual one.
LONG_SECONDS = 0.005


class Turns:
    """A context manager around a request: the one that waited longest is next.

    A turn ends early where the request calls :meth:`pass_on` before slow work, or by itself when
    others have waited for too long.

    :param patience: seconds after which the next request checks for an overdue turn; later ones
        check later, by their place
    """

    def __init__(self, patience: float = 0.01) -> None:
        self._patience = patience
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._current: threading.Lock | None = None
        self._since = 0.0
        self._of_thread = threading.local()

    def __enter__(self) -> None:
        mine = self._of_thread.turn = threading.Lock()
        with self._mutex:
            if self._current is None:
                self._begin(mine)
                return
            mine.acquire()
            self._waiting.append(mine)
            place = len(self._waiting)
        while not mine.acquire(timeout=place * self._patience):
            current, place = self._current, 1
            if current and time.monotonic() - self._since > LONG_SECONDS:
                self._end(current)

    def __exit__(self, *_: object) -> None:
        self._end(self._of_thread.turn)

    def pass_on(self) -> None:
        """End this thread's turn, if it has one."""
        if turn := getattr(self._of_thread, "turn", None):
            self._end(turn)

    def _end(self, turn: threading.Lock) -> None:
        with self._mutex:
            if turn is self._current:
                self._begin(self._waiting.popleft() if self._waiting else None)
                if self._current:
                    self._current.release()

    def _begin(self, turn: threading.Lock | None) -> None:
        self._current, self._since = turn, time.monotonic()


#: The turns of this process.
turns = Turns()
