"""One server process on a loopback port: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import IO, Any, Self

START_SECONDS = 60.0  # on a machine that is busy with something else
# Longer than the watchdog lets a server live, so that those of a killed run are gone by then.
CLAIM_SECONDS = 7.0
# A database needs no setting of the service, and must not inherit PGPORT or a translated locale.
BARE_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}

#: The marks of the ports that this process has chosen last, and the most.
KEPT: deque[int] = deque()
MOST_KEPT = 200


class CannotStart(RuntimeError):
    """A server cannot start; the text is for the person at the terminal."""


class Server:
    """A server on 127.0.0.1 with its files in ``directory``; a context manager.

    ``kill()`` and then ``start()`` is a crash and a restart: same port, same data. Not for use
    by several threads at once.
    """

    name: str
    stop_signal = signal.SIGINT
    stop_seconds = 15.0

    def __init__(self, directory: Path, port: int | None = None) -> None:
        """:param port: a TCP port; None for any free one, which is then kept"""
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / f"{self.name}.log"
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.given_up = False  # for a signal handler, to end the wait in start()
        self.reason = ""  # why it does not respond yet, where that is known
        self._port_is_kept = port is not None
        self._claim: IO[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Find the programs and write the files that ``command`` needs."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """More keywords for ``subprocess.Popen``."""
        return {}

    def responds(self) -> bool:
        """Whether this very process is up and serves requests."""
        raise NotImplementedError

    def claim(self, seconds: float = CLAIM_SECONDS) -> None:
        """Wait until no server runs in ``directory``, then keep others out.

        The lock is on the log, which the server inherits. So it lasts exactly as long as the
        server or a child of it lives, even when the process that started them was killed.

        :raises CannotStart: when it is still in use after ``seconds``
        """
        if self._claim:
            return
        log = open(self.log, "ab", opener=private)  # noqa: SIM115 - closed by _release
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                log.close()
                raise CannotStart(
                    f"Another run is using {self.directory}. Stop it first, or run from a "
                    "second clone."
                ) from None
            if not self.process:
                log.truncate(0)  # the log of one run, with all its crashes
            self._claim = log
            return

    def start(self) -> None:
        """Return once the server responds, or at once when ``given_up`` is set.

        :raises CannotStart: with the end of its log
        """
        if self.process and self.process.poll() is None:
            return
        self._stop_watchdog()  # it may have ended by itself
        try:
            self.claim()
            self.prepare()
            while not self._comes_up():
                # Between the choice of a port and the bind, another process may have taken it.
                if self._port_is_kept or is_free(self.port):
                    raise CannotStart(f"{self.name} did not start.\n{self.reason}{tail(self.log)}")
                self.kill()
                self.claim()
                self.port = free_port()
        except BaseException:
            self.kill()
            raise
        self._port_is_kept = True

    def stop(self) -> None:
        """Stop the server gracefully; kill it when that takes too long."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as failure:
            failure.push(self)
            self.start()
            failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _comes_up(self) -> bool:
        # A session of its own: Ctrl-C at the terminal must not reach a database before the
        # service has finished its last requests.
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=self._claim,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self.options(),
        )
        self._watchdog = watchdog(self.process.pid)
        self._release()
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.given_up or self.responds():
                return True
            time.sleep(0.02)
        return False

    def _end(self, number: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)  # a paused process obeys nothing else
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._stop_watchdog()
        self._release()

    def _stop_watchdog(self) -> None:
        if self._watchdog:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None

    def _release(self) -> None:
        if self._claim:
            self._claim.close()
            self._claim = None


def watchdog(pid: int) -> subprocess.Popen[bytes]:
    """A process that ends ``pid`` once this process is gone, for whatever reason.

    It reads from a pipe that only this process holds open. The kernel's parent-death signal would
    fire when the *thread* that started the server ends, and only Linux has it.
    """
    script = 'read -r _; kill -INT "$1"; kill -CONT "$1"; sleep 5; kill -KILL "$1"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "watchdog", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that no other run has chosen.

    Below the range that kernels lend to clients. A client that retries while its server is down
    could otherwise be lent that server's port, and keep it.
    """
    while not keep(port := 20_000 + secrets.randbelow(12_000)):
        pass
    return port


def keep(port: int) -> bool:
    """Keep a free port from others that choose one; False where it is in use or chosen.

    A server that has not started yet, or is stopped for a while, would otherwise lose its port to
    another. Of two HAProxies with one port, each gets a part of the connections.
    """
    if not is_free(port):
        return False
    if sys.platform != "linux":
        return True
    # A name without a file, which the kernel drops with the process.
    with socket.socket(socket.AF_UNIX) as mark:
        try:
            mark.bind(f"\0token-service-port-{port}")
        except OSError:
            return False
        KEPT.append(mark.detach())
    if len(KEPT) > MOST_KEPT:
        os.close(KEPT.popleft())
    return True


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of 127.0.0.1.

    :raises OSError: for any other obstacle, such as a privileged port
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def private(path: str, flags: int) -> int:
    """An opener for files that only their owner can read, from the first byte."""
    return os.open(path, flags, 0o600)


def kept_secret(path: Path, size: int) -> str:
    """The secret in ``path``, made of ``size`` random bytes the first time."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    with open(path, "x", opener=private) as file:
        file.write(secrets.token_urlsafe(size))
    return path.read_text()


def tail(log: Path) -> str:
    """The last lines of a log, and its path."""
    lines = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join([f"The end of {log}:", *lines])
