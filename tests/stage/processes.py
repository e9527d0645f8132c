"""Processes that a test starts, and their end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.stage.paths import ROOT


def ends(pid: int, seconds: float) -> bool:
    """Whether the process is gone, or a zombie that its new parent is slow to reap."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                time.sleep(0.05)
                continue
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a session of its own, which a failed test does not wait for."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "redis_timeout_ms": "5000",  # shared machines stall
        "redis_connect_timeout_ms": "5000",
    }
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
