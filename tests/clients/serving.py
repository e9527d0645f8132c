"""Applications with a guard of the client, under the servers of their frameworks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dev.server import free_port
from tests.stage.paths import ROOT
from tests.stage.waiting import until

SOURCE = ROOT / "clients/python/src"


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def served(text: str, folder: Path, server: str, **environment: str) -> Iterator[tuple[int, Path]]:
    """Run a module with an ``app``; give its port, and the file of its log.

    :param server: uvicorn or gunicorn
    """
    (folder / "guarded.py").write_text(text, encoding="utf-8")
    port, log = free_port(), folder / "log"
    listening = {"uvicorn": ["--port", f"{port}"], "gunicorn": ["-b", f"127.0.0.1:{port}"]}
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)}
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", server, "guarded:app", *listening[server]],
            cwd=folder,
            env={**path, **environment},
            stdout=written,
            stderr=written,
        )
    try:
        until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield port, log
    finally:
        process.terminate()
        process.wait(30)
