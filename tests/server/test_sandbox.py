"""The sandbox is served on loopback alone, unless sandbox_public says otherwise."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from dev.server import free_port
from tests.stage.paths import ROOT
from tests.stage.service import Service
from tests.stage.wire import head, raw, read
from tokenservice.server.listeners import is_loopback

CONFIG = f"{ROOT}/gunicorn.conf.py"


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """A gunicorn with the sandbox on, that nobody waits for."""
    given = {"secret_key": "0123456789" * 4, "sandbox": "true", "web_concurrency": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", CONFIG, *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **given, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_sandbox_that_others_reach_does_not_start(tmp_path: Path) -> None:
    """Whichever setting of gunicorn wins. Guard: ``exposure`` in gunicorn.conf.py."""
    here, there = f"127.0.0.1:{free_port()}", f"0.0.0.0:{free_port()}"
    own = tmp_path / "own.conf.py"
    own.write_text(f"exec(open({CONFIG!r}).read())\nbind = {f'0.0.0.0:{free_port()}'!r}\n")
    starts = {
        f"http://{there}": started(tmp_path, "-b", there, GUNICORN_CMD_ARGS=f"-b {here}"),
        "http://[::]:": started(tmp_path, "-b", here, "-b", f"[::]:{free_port()}"),
        "http://0.0.0.0:": started(tmp_path, "-c", str(own)),
        "reuse_port": started(tmp_path, "-b", f"127.0.0.1:{free_port()}", "--reuse-port"),
    }
    with contextlib.ExitStack() as ended:
        for process in starts.values():
            ended.callback(process.terminate)
        for address, process in starts.items():
            _, written = process.communicate(timeout=60)
            [line] = [line for line in written.splitlines() if line.startswith("sandbox is true, ")]
            assert address in line
            assert "sandbox_public=true" in line
            assert process.returncode == 1
            assert "Traceback" not in written
            assert "Booting worker" not in written


@pytest.mark.slow
def test_a_sandbox_is_public_only_if_it_is_told_so(serve: Callable[..., Service]) -> None:
    """After a reload too: then the service goes on without it. Guard: ``on_reload``."""
    service = serve(web_concurrency=1, sandbox="", sandbox_public="")
    service.host, file = "0.0.0.0", service.log.parent / ".env"
    file.write_text("sandbox=true\nsandbox_public=true\n")
    with service:
        assert "The sandbox is on" in service.log.read_text()
        assert httpx.get(f"{service.url}/healthz").headers["X-Sandbox"] == "true"
        file.write_text("sandbox=true\n")
        service.reload()
        assert "The sandbox stays off. sandbox is true, and" in service.log.read_text()
        assert "X-Sandbox" not in httpx.get(f"{service.url}/healthz").headers


@pytest.fixture
def service(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=1, sandbox=True) as running:
        yield running


def test_refusals_before_the_app_say_that_it_is_a_sandbox(service: Service) -> None:
    for sent in (
        head("GET /healthz HTTP/1.1", "X-Long: " + "a" * 9000),
        head("GET /healthz HTTP/9.9"),
        head("POST /auth/login HTTP/1.1", "Content-Length: -1"),
    ):
        refusal = read(raw(service, sent))
        assert refusal.status_code in (400, 431)
        assert refusal.headers["X-Sandbox"] == "true"


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), True),
        (socket.AF_INET, ("127.3.2.1", 0), True),
        (socket.AF_INET, ("localhost", 0), True),
        (socket.AF_INET, ("0.0.0.0", 0), False),
        (socket.AF_INET6, ("::1", 0), True),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 0), True),
        (socket.AF_INET6, ("::ffff:0.0.0.0", 0), False),
        (socket.AF_INET6, ("::", 0), False),
        (socket.AF_UNIX, "\0sandbox-of-a-test", True),
    ],
)
def test_a_socket_tells_whether_others_reach_it(
    family: socket.AddressFamily, address: str | tuple[str, int], expected: bool
) -> None:
    with socket.socket(family) as listener:
        listener.bind(address)
        assert is_loopback(listener) is expected
