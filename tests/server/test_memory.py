"""The files in /dev/shm: taken at the start, so that no worker dies of a full one, and removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.stage.paths import ROOT
from tests.stage.programs import lacks
from tests.stage.service import Service

#: Runs in a mount namespace with a /dev/shm of its own.
BEGIN = """
import contextlib, json, os, signal, subprocess, sys, threading, time
from pathlib import Path
import httpx
from tests.stage.service import Service
from tests.stage.waiting import until

MEMORY = Path("/dev/shm")
settings, log = json.load(sys.stdin)
service = Service(settings, Path(log))
port = str(service.port)
log_dir = service.log.parent
command = [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:" + port]
options = {"cwd": log_dir, "env": service._environment, "capture_output": True}

def responds():
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{service.url}/healthz").is_success

def folders():
    return sorted(path for path in MEMORY.iterdir() if path.name.startswith("token-service"))

def fill():
    with contextlib.suppress(OSError), (MEMORY / "other").open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass

def fill_for_ever():
    while True:
        fill()
        time.sleep(0.001)

def call_everything():
    with httpx.Client(base_url=service.url, timeout=30) as http:
        for path in ("/docs", "/token", "/auth/me", "/metrics", "/openapi.json", "/problems/busy"):
            for method in ("GET", "POST", "DELETE"):
                assert http.request(method, path).status_code != 502
        for path in ("/readyz", "/readyz/redis", "/healthz"):
            assert http.get(path).status_code == 200
        assert "token_service_http_requests_total" in http.get("/metrics").text
"""


def in_memory_of_its_own(
    size: str, script: str, service: Service
) -> subprocess.CompletedProcess[str]:
    """Run ``script`` where /dev/shm has ``size``."""
    space = ["unshare", "--mount"] + (["--user", "--map-root-user"] if os.getuid() else [])
    mount = f'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"'
    if subprocess.run([*space, "sh", "-c", mount, "", "true"], check=False).returncode:
        lacks("this machine allows no mount namespace")
    done = subprocess.run(
        [*space, "sh", "-c", mount, "", sys.executable, "-c", BEGIN + script],
        cwd=ROOT,
        input=json.dumps([service._environment, str(service.log)]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    log = service.log.read_text() if service.log.exists() else ""
    assert done.returncode == 0, done.stderr + log
    return done


@pytest.fixture
def idle(serve: Callable[..., Service]) -> Service:
    """A service that has not been started."""
    return serve(web_concurrency=2)


@pytest.mark.slow
def test_a_full_memory_ends_no_worker(idle: Service) -> None:
    """Nor a replaced one, nor those of a reload.

    Guards: ``take_room`` and ``child_exit`` in gunicorn.conf.py.
    """
    script = """
with service:
    fill()
    # Another program takes whatever room a dead worker leaves.
    threading.Thread(target=fill_for_ever, daemon=True).start()
    before = service.workers()
    call_everything()
    assert service.workers() == before
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(service.workers()) == 2 and before[0] not in service.workers())
    replaced = service.workers()
    call_everything()
    assert service.workers() == replaced
    service.reload()
    reloaded = service.workers()
    call_everything()
    assert service.workers() == reloaded
    [folder] = folders()
    for file in folder.glob("*.db"):
        state = file.stat()
        assert state.st_blocks * 512 >= state.st_size, file
    print(sorted({file.name.rpartition("_")[0] for file in folder.glob("*.db")}))
    print(sorted({file.stat().st_size for file in folder.glob("*.db")}))
assert not folders()
"""
    done = in_memory_of_its_own("4m", script, idle)
    kinds, sizes = done.stdout.splitlines()
    # A kind that the library adds, and a file that outgrows its room, are noticed here.
    assert kinds == "['counter', 'gauge_livesum', 'histogram']"
    assert sizes == str([1 << 12, 5 << 15, 1 << 18])
    assert "SIGBUS" not in idle.log.read_text()


@pytest.mark.slow
def test_more_workers_than_there_is_room_for_do_not_start(idle: Service) -> None:
    """At a reload. They would share what is left, and end in a loop."""
    script = """
del service._environment["web_concurrency"]  # The default is 2.
with service.log.open("w") as log:
    service.process = subprocess.Popen(command, cwd=log_dir, env=service._environment, stderr=log)
try:
    until(lambda: len(service.workers()) == 2 and responds())
    fill()
    (log_dir / ".env").write_text("web_concurrency=7")
    service.reload()
    call_everything()
    assert len(service.workers()) == 2
finally:
    service.__exit__()
"""
    in_memory_of_its_own("4m", script, idle)
    assert "There is room for the files of 2 workers" in idle.log.read_text()


@pytest.mark.slow
def test_without_room_in_memory_the_files_are_elsewhere_and_it_is_said(idle: Service) -> None:
    script = """
with service:
    call_everything()
    assert not folders()
"""
    in_memory_of_its_own("256k", script, idle)
    assert "/dev/shm has no room: the files are in " in idle.log.read_text()


@pytest.mark.slow
def test_without_any_room_the_start_is_refused(idle: Service) -> None:
    script = """
service._environment["TMPDIR"] = str(MEMORY)
done = subprocess.run(command, **options)
assert done.returncode == 1
assert done.stderr.startswith(b"No room for the files of 2 workers"), done.stderr
assert len(done.stderr.splitlines()) == 1
assert not folders()
"""
    in_memory_of_its_own("256k", script, idle)


@pytest.mark.slow
def test_a_refused_start_leaves_nothing(idle: Service) -> None:
    """Guard: ``atexit`` in gunicorn.conf.py."""
    script = """
import socket
assert subprocess.run([*command, "--check-config"], **options).returncode == 0
assert not folders()
with socket.create_server(("127.0.0.1", int(port))):
    assert subprocess.run(command, **options).returncode == 1
assert not folders()
assert subprocess.run([*command, "nowhere:app"], **options).returncode != 0
assert not folders()
service._environment["secret_key"] = "short"
assert subprocess.run(command, **options).returncode == 1
assert not folders()
"""
    in_memory_of_its_own("4m", script, idle)


@pytest.mark.slow
def test_the_folder_of_a_killed_service_is_removed_and_no_other(idle: Service) -> None:
    """Guard: the lock, in ``remove_leftovers``."""
    script = """
def age():
    for folder in folders():
        os.utime(folder, (0, 0))

other = MEMORY / "token-service-metrics-of-another-version"
other.mkdir()
with service:
    [folder] = [one for one in folders() if one != other]
    workers = service.workers()
    age()
    assert subprocess.run([*command, "--check-config"], **options).returncode == 0
    assert folder in folders()  # It is in use.
    service.process.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
age()
assert subprocess.run([*command, "--check-config"], **options).returncode == 0
assert folders() == [other]
"""
    in_memory_of_its_own("8m", script, idle)
