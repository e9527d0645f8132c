"""A gunicorn with this service, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from dev.server import free_port
from tests.stage.paths import ROOT
from tests.stage.waiting import until

#: An open file of a worker that listens, or is about to.
EPOLL = "anon_inode:[eventpoll]"


class Service:
    """A gunicorn on loopback. It reads a ``.env`` beside its log, if there is one.

    :param root: the folder of its code
    """

    host = "127.0.0.1"  # that it listens on

    def __init__(self, settings: dict[str, str], log: Path, root: Path = ROOT) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        given = {"PYTHONPATH": "", "GUNICORN_CMD_ARGS": "", **settings}
        self._environment = given | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(root), given["PYTHONPATH"]]),
            # Of two configurations the last one counts.
            "GUNICORN_CMD_ARGS": f"-c {root}/gunicorn.conf.py {given['GUNICORN_CMD_ARGS']}",
        }

    def __enter__(self) -> Service:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-b", f"{self.host}:{self.port}"],
                cwd=self.log.parent,
                env=self._environment,
                stderr=log,
            )
        with contextlib.ExitStack() as failure:
            failure.push(self)
            self._wait()
            failure.pop_all()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        # One client without TLS: each with it reads all certificates of this machine, for 20 ms.
        with httpx.Client(base_url=self.url, timeout=5, verify=False) as http:  # noqa: S501
            while time.monotonic() < deadline:
                # The first worker responds before the last one has started.
                with contextlib.suppress(httpx.TransportError, OSError):
                    http.get("/healthz")
                    workers = self.workers()
                    if len(workers) == int(self._environment["web_concurrency"]) and all(
                        EPOLL in self.descriptors(worker) for worker in workers
                    ):
                        return
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        raise AssertionError("gunicorn did not start: " + self.log.read_text())

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)

    def workers(self) -> list[int]:
        """The pids of its worker processes."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def lines(self, part: str = "") -> list[dict[str, Any]]:
        """The whole lines of its log with this text, without those of the audit trail."""
        whole = self.log.read_text().rpartition("\n")[0].splitlines()
        found = (json.loads(line) for line in whole if part in line)
        return [line for line in found if "stream" not in line]

    def reload(self) -> None:
        """Reload the settings, and replace the workers."""
        before = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: len(now := self.workers()) == len(before) and not before & set(now))

    def descriptors(self, worker: int) -> list[str]:
        """The open files of a worker: a path or, for example, "socket:[123]" with its inode."""
        found = []
        for link in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(link.readlink()))
        return found
