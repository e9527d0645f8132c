"""Standard error and files whose writes neither raise nor block.

A disk may be full, and a reader may be gone or stopped. No response may depend on that, least of
all one after a consume. So lines wait in a queue, and one thread of each process writes them. Lines
without room, or that cannot be written, are dropped and counted; the next successful write reports
their number.

A line of the audit trail is written before its response, where that needs no waiting: a process
that is killed then loses no line of a response that went out.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
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


#: The least time between two looks whether a file was moved away, as a rotation does.
LOOK_SECONDS = 1.0


def timestamp() -> str:
    """The time of a line."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def write(descriptor: int, data: bytes) -> None:
    """Write all of it, however long that takes.

    :raises OSError: it cannot be written; a part may have been
    """
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            # All processes share the non-blocking flag, and any of them may set it.
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()


def at_once(descriptor: int) -> Callable[[bytes], int] | None:
    """What writes to ``descriptor`` and never waits; None where nothing can.

    Other processes share it, and its flags: so a pipe is opened anew, for this process alone.
    """
    with contextlib.suppress(OSError):
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISREG(kind):
            return lambda data: os.write(descriptor, data)
        if stat.S_ISSOCK(kind):
            own = socket.socket(fileno=os.dup(descriptor))
            return lambda data: own.send(data, socket.MSG_DONTWAIT)
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
        anew = os.open(f"/dev/fd/{descriptor}", flags)
        return lambda data: os.write(anew, data)
    return None


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

    def descriptor(self) -> int:
        """Where to write. It is asked before each write."""
        return DESCRIPTOR

    def _begin(self) -> None:
        self._waiting: deque[bytes] = deque()
        # Unlike an Event, it may be used by code that interrupts its own use: a signal handler, or
        # a destructor. It holds False once the process ends.
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dropped = 0  # lines not reported yet
        self._is_torn = False
        self._at_once: Callable[[bytes], int] | None = None
        self._opened = -1  # the descriptor behind it

    def write(self, line: str) -> None:
        """Take a line, with its end. This neither raises nor waits."""
        self._queue(line.encode(errors="backslashreplace"))

    def write_at_once(self, line: str) -> None:
        """Write a line, or several, before this returns, unless they would have to wait.

        It costs 3 µs more than :meth:`write`. Threads that write at the same time may change the
        order of their lines.
        """
        data, written = line.encode(errors="backslashreplace"), 0
        if not self._waiting and not self._dropped:
            try:  # noqa: SIM105 - suppress() takes 0.6 µs
                written = self._write_now(data)
            except OSError:
                pass
        if not written:
            self._queue(data)
        elif written < len(data):  # There is no room for the rest, which alone is no line.
            self._is_torn = True
            self._drop(data[written:])

    def _write_now(self, data: bytes) -> int:
        """:raises OSError: it would have to wait, or cannot be written"""
        descriptor = self.descriptor()
        if self._opened != descriptor:
            with self._lock:
                self._at_once = at_once(descriptor)
                self._opened = descriptor
        return self._at_once(data) if self._at_once else 0

    def _queue(self, line: bytes) -> None:
        if len(self._waiting) < MOST_LINES:
            self._waiting.append(line)
        else:
            self._drop(line)
        if self._bell.empty():
            self._bell.put(True)
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Part of a stream. Only the end of the process waits for its lines."""

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="lines", daemon=True)
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
        self._drop(b"".join(self._waiting))

    def _write_waiting(self) -> None:
        while self._waiting:
            lines = self._next_lines()
            data = b"".join(lines)
            try:
                if self._dropped:
                    self._tell()
                write(self.descriptor(), data)
            except OSError:
                self._is_torn = True
                self._drop(data)
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
                "timestamp": timestamp(),
            }
        )
        start = "\n" if self._is_torn else ""  # The last line may be incomplete.
        write(self.descriptor(), f"{start}{line}\n".encode())
        self._is_torn = False
        with self._lock:
            self._dropped -= dropped

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n")
        with self._lock:
            self._dropped += lines
            metrics.DROPPED.inc(lines)


#: The stream of this process.
stderr = Lines()


class FileLines(Lines):
    """The same in a file, which is opened anew after a rotation has moved it away."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file = -1
        self._looked_at = -LOOK_SECONDS
        super().__init__()

    def descriptor(self) -> int:
        """:raises OSError: the file cannot be opened"""
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS or self._file < 0:
            self._looked_at = now
            self._open()
        return self._file

    def _open(self) -> None:
        with self._lock:
            if self._file >= 0:
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                        return
            # Without a reader, a pipe is an error, and nothing to wait for.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            opened = os.open(self._path, flags, 0o640)
            if self._file < 0:
                self._file = opened
            else:
                # The number stays: another thread may be about to write to it.
                os.dup2(opened, self._file, inheritable=False)
                os.close(opened)
