"""Standard error whose writes neither raise nor block.

A disk may be full, and a reader may be gone or stopped. No response may depend on that, least of
all one after a consume. So lines wait in a queue, and one thread of each process writes them. Lines
without room, or that cannot be written, are dropped and counted; the next successful write reports
their number.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from queue import SimpleQueue

from tokenservice.telemetry import metrics

#: The most lines in the queue: a few seconds of a busy worker.
MOST_LINES = 2000

#: The pause after an empty queue. Under load the thread wakes once for many lines, and a killed
#: process loses those of so short a time.
REST_SECONDS = 0.02

#: The longest wait of an ending process for its last lines.
LAST_SECONDS = 1

#: The bytes of one write that a pipe never mixes with those of another process (POSIX).
WHOLE_BYTES = select.PIPE_BUF

# If it was closed before the start, its number may be that of a connection by now.
try:
    DESCRIPTOR = sys.stderr.fileno()
except (AttributeError, OSError):
    DESCRIPTOR = -1


def write(data: bytes) -> None:
    """Write all of it, however long that takes.

    :raises OSError: it cannot be written; a part may have been
    """
    while data:
        try:
            data = data[os.write(DESCRIPTOR, data) :]
        except BlockingIOError:
            # All processes share the non-blocking flag, and any of them may set it.
            ready = select.poll()
            ready.register(DESCRIPTOR, select.POLLOUT)
            ready.poll()


class Lines:
    """A text stream that takes whole lines, from any thread."""

    def __init__(self) -> None:
        self._lock = lock = threading.RLock()
        self._begin()
        atexit.register(self._end)
        # A fork copies every lock in its state, also one inside the metrics that the thread holds
        # while it counts; but neither the thread nor the lines that it is about to write.
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._waiting: deque[bytes] = deque()
        # Unlike an Event, it may be used by code that interrupts its own use: a signal handler, or
        # a destructor. It holds False once the process ends.
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dropped = 0  # lines not reported yet
        self._is_torn = False

    def write(self, line: str) -> None:
        """Take a line, with its end. This neither raises nor waits."""
        if len(self._waiting) < MOST_LINES:
            self._waiting.append(line.encode(errors="backslashreplace"))
        else:
            self._drop(1)
        if self._bell.empty():
            self._bell.put(True)
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Part of a stream. Only the end of the process waits for its lines."""

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="stderr", daemon=True)
                # No thread may be available; the next line tries again.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while self._bell.get():
            self._write_waiting()
            time.sleep(REST_SECONDS)
        self._write_waiting()

    def _end(self) -> None:
        if self._thread:
            self._bell.put(False)
            self._thread.join(LAST_SECONDS)
        self._drop(len(self._waiting))

    def _write_waiting(self) -> None:
        while self._waiting:
            lines = self._next_lines()
            try:
                if self._dropped:
                    self._tell()
                write(b"".join(lines))
            except OSError:
                self._is_torn = True
                self._drop(len(lines))
            for _ in lines:
                self._waiting.popleft()

    def _next_lines(self) -> list[bytes]:
        """As many lines as stay whole in one write, and at least one.

        The lines of several workers do not mix. Only a longer line, for which a pipe has no room at
        the moment, may have another in its middle.
        """
        lines: list[bytes] = []
        size = 0
        for number in range(len(self._waiting)):
            size += len(self._waiting[number])
            if lines and size > WHOLE_BYTES:
                break
            lines.append(self._waiting[number])
        return lines

    def _tell(self) -> None:
        dropped = self._dropped
        line = json.dumps(
            {
                "event": "log.lines_dropped",
                "lines": dropped,
                "level": "error",
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
        )
        start = "\n" if self._is_torn else ""  # The last line may be incomplete.
        write(f"{start}{line}\n".encode())
        self._is_torn = False
        with self._lock:
            self._dropped -= dropped

    def _drop(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines
            metrics.DROPPED.inc(lines)


#: The stream of this process.
stderr = Lines()
