"""Standard error that is unwritable, or whose reader has stopped: every call is still served."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stage.paths import ROOT
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.programs import program
from tests.stage.racing import Connection, connected, race, request
from tests.stage.scrapes import scraped, value
from tests.stage.service import Service
from tests.stage.waiting import served, until
from tokenservice.telemetry.lines import LAST_SECONDS, MOST_LINES

PAGE = 4096
TOGETHER = 8
#: The most lines that a service still writes about its start once it responds.
STARTING = 4
Serve = Callable[..., Service]
Process = subprocess.Popen[bytes]


class Pipe:
    """A pipe of one page, whose reader reads only in :meth:`drain`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._reader: int | None = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, PAGE)
        self.read = b""

    def drain(self, enough: Callable[[], bool], seconds: float = 30) -> None:
        """Read until ``enough()``."""
        assert self._reader is not None
        deadline = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < deadline
            if select.select([self._reader], [], [], 0.1)[0]:
                self.read += os.read(self._reader, PAGE)

    def drain_the_rest(self) -> None:
        """Read until the end, once there is no writer any more."""
        assert self._reader is not None
        while part := os.read(self._reader, PAGE):
            self.read += part

    def close(self) -> None:
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None


@pytest.fixture
def piped(serve: Serve) -> Iterator[tuple[Service, Pipe]]:
    """A service of one worker whose log is a pipe."""
    service = serve(web_concurrency=1, audit_log="off")
    pipe = Pipe(service.log)
    with contextlib.closing(pipe), service:
        yield service, pipe


def dropped(service: Service) -> int:
    """The number of dropped lines, by the metric."""
    page = httpx.get(f"{service.url}/metrics", timeout=30).text
    return int(value(page, "token_service_log_lines_dropped_total"))


def refused(service: Service) -> int:
    """The number of requests that a stall of the machine made a 503."""
    page = scraped(httpx.get(f"{service.url}/metrics", timeout=30).text)
    name, status = "token_service_http_requests_total", ("status", "503")
    return int(sum(page[key] for key in page if key[0] == name and status in key[1]))


def parsed(written: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines() if line]


def reported(lines: list[dict[str, Any]]) -> int:
    """The number of dropped lines, by the log itself."""
    return sum(line["lines"] for line in lines if line["event"] == "log.lines_dropped")


def statuses(connections: list[Connection], requests: list[bytes]) -> Counter[int]:
    """The statuses of ``requests``, one at a time on each connection."""
    counted: Counter[int] = Counter()
    for start in range(0, len(requests), len(connections)):
        some = requests[start : start + len(connections)]
        counted.update(response.status for response in race(connections[: len(some)], some))
    return counted


def create(service: Service, person: Person, count: int = 100) -> list[str]:
    """Create tokens in one call."""
    body = {"count": count, "expires_in": 60}
    url = f"{service.url}/token/batch"
    response = served(lambda: httpx.post(url, json=body, headers=person.headers, timeout=30))
    return [token["token"] for token in response.json()["tokens"]]


@pytest.mark.slow
def test_a_stopped_reader_delays_no_response(piped: tuple[Service, Pipe]) -> None:
    """Once it reads again, the log reports the number of missing lines.

    Guards: the queue of lines.py, and MOST_LINES.
    """
    service, pipe = piped
    person = enrol(lambda path, **body: httpx.post(service.url + path, **body, timeout=30))
    calls, slowest = 2, 0.0
    with connected([service], TOGETHER) as connections:
        while calls < MOST_LINES + 600:
            tokens = create(service, person)
            requests = [request("/token/validate", person, {"token": token}) for token in tokens]
            began = time.monotonic()
            assert statuses(connections, requests) == {200: len(tokens)}
            slowest = max(slowest, time.monotonic() - began)
            calls += len(tokens) + 1
    assert slowest < 20
    missing = dropped(service)
    assert missing > 500

    pipe.drain(lambda: b"log.lines_dropped" in pipe.read)
    assert httpx.get(f"{service.url}/last", timeout=30).status_code == 404
    pipe.drain(lambda: pipe.read.endswith(b"\n") and b'"status": 404' in pipe.read)
    lines = parsed(pipe.read)
    assert reported(lines) == missing == dropped(service)
    written = sum("status" in line for line in lines)
    assert 0 <= written - (calls + 1 - missing) <= refused(service)


@pytest.mark.slow
def test_a_stopped_reader_delays_no_reload_and_no_stop(serve: Serve) -> None:
    """Guard: LAST_SECONDS. Workers end within it, and so does their parent."""
    service = serve(web_concurrency=2)
    with contextlib.closing(Pipe(service.log)):
        with service:
            for _ in range(60):
                assert httpx.get(f"{service.url}/nowhere", timeout=30).status_code == 404
            service.reload()
            began = time.monotonic()
        assert time.monotonic() - began < 15
        assert service.process.returncode == 0


def gone(service: Service) -> Callable[[], None]:
    pipe = Pipe(service.log)
    return pipe.close


def full(service: Service) -> Callable[[], None]:
    service.log.symlink_to("/dev/full")
    return lambda: None


@pytest.mark.slow
@pytest.mark.parametrize("broken", [gone, full])
def test_an_unwritable_log_changes_no_response(
    broken: Callable[[Service], Callable[[], None]], serve: Serve
) -> None:
    """Nor does a full disk, or a pipe without a reader, end a worker."""
    service = serve(web_concurrency=2)
    breaks = broken(service)
    with service, httpx.Client(base_url=service.url, timeout=30) as http:
        workers = service.workers()
        breaks()
        before = dropped(service)
        person = enrol(http.post)
        http.headers.update(person.headers)
        wrong = {"correo": person.correo, "password": PASSWORD + "x"}
        assert served(lambda: http.post("/auth/login", json=wrong)).status_code == 401
        for _ in range(20):
            created = http.post("/token/create")
            body = {"token": created.json()["token"]}
            responses = [created, *(http.post("/token/validate", json=body) for _ in range(2))]
            assert [response.status_code for response in responses] == [201, 200, 409]
        # Of all but the registration there is a line in the audit trail too.
        expected = before + 3 + 60 + 2 + 60
        until(lambda: dropped(service) >= expected)
        # The last lines of the start may come late.
        assert dropped(service) <= expected + STARTING + 2 * refused(service)
        assert http.get("/readyz").status_code == 200
        assert service.workers() == workers


@pytest.mark.slow
def test_a_full_disk_tears_one_line_and_the_next_is_whole(serve: Serve) -> None:
    """The system writes a part of a line, as on a disk without more room.

    Guard: ``_is_torn``.
    """

    def ask(times: int) -> None:
        for _ in range(times):
            assert httpx.get(f"{service.url}/nowhere", timeout=30).status_code == 404

    with serve(web_concurrency=1) as service:
        ask(1)
        until(lambda: b'"status": 404' in service.log.read_bytes())
        [worker] = service.workers()
        most = service.log.stat().st_size + 100
        limit, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (most, hard))
        ask(5)
        until(lambda: dropped(service) >= 5)
        assert service.log.stat().st_size == most
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (limit, hard))
        ask(3)
        lost = dropped(service)
        assert lost <= 5 + STARTING
    written = service.log.read_bytes()
    torn = written[:most].splitlines()[-1]
    assert written[most:].startswith(b"\n")
    whole = parsed(written[: most - len(torn)] + written[most:])
    assert reported(whole) == lost
    assert sum("status" in line for line in whole) == 1 + 3


def test_no_line_is_lost_or_mixed_in_ordinary_operation(serve: Serve) -> None:
    """Three workers write into a pipe that is full most of the time, and end in good order.

    Guard: WHOLE_BYTES; a pipe may mix longer writes.
    """
    service = serve(web_concurrency=3)
    pipe, over = Pipe(service.log), threading.Event()
    ids = [f"{number:04}" * 16 for number in range(3000)]
    head = "GET /nowhere HTTP/1.1\r\nHost: service\r\nX-Request-ID: {}\r\n\r\n"
    with contextlib.closing(pipe), ThreadPoolExecutor(1) as reader:
        reading = reader.submit(pipe.drain, over.is_set, 100)
        with service, connected([service], 12) as connections:
            found = statuses(connections, [head.format(one).encode() for one in ids])
            assert found == {404: len(ids)}
        over.set()
        reading.result()
        pipe.drain_the_rest()
        lines = parsed(pipe.read)
    assert sorted(line["request_id"] for line in lines if line.get("status") == 404) == ids
    events = [line["event"].partition(" (")[0] for line in lines if "status" not in line]
    assert events.count("Worker exiting") == 3
    assert events[-1] == "Shutting down: Master"
    assert not reported(lines)


# One process, without a service.

#: For a process that is to write all of its lines, though the machine stands still at its end.
PATIENT = "from tokenservice.telemetry import lines; lines.LAST_SECONDS = 60\n"
LINES = """
import logging
from tokenservice.telemetry import logs

logs.configure("info")
for number in range({count}):
    if number % 2:
        logs.log.info("line", number=number)
    else:
        logging.getLogger("library").error("line %s", number)
"""


def python(script: str, env: dict[str, str] | None = None, **options: Any) -> Process:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.Popen([sys.executable, "-c", script], env=given, **options)


def test_the_last_lines_of_a_process_are_written() -> None:
    """Guard: ``Lines._end``."""
    with python(PATIENT + LINES.format(count=1000), stderr=subprocess.PIPE) as process:
        output = process.communicate(timeout=60)[1]
    assert len(parsed(output)) == 1000


@pytest.mark.slow
def test_a_process_ends_though_its_last_lines_are_unread() -> None:
    """Guards: LAST_SECONDS, and a daemon thread."""
    script = LINES.format(count=3000) + "import time; print(time.monotonic(), flush=True)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with python(script, **pipes) as process:
        assert process.stdout
        started = float(process.stdout.readline())
        assert process.wait(60) == 0
        assert LAST_SECONDS - 0.1 < time.monotonic() - started < LAST_SECONDS + 30


def test_a_line_is_whole_where_stderr_is_non_blocking() -> None:
    """Another process that shares it may set the flag. Guard: BlockingIOError in lines.py."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PAGE)
    script = PATIENT + LINES.format(count=300) + "logs.log.info('x' * 50_000, number=300)"
    with python(script, stderr=writer) as process, open(reader, "rb") as output:  # noqa: PTH123
        os.close(writer)
        lines = parsed(output.read())
        assert process.wait(60) == 0
    assert len(lines) == 301
    assert len(lines[-1]["event"]) == 50_000


COUNTED = """
import time
from prometheus_client import REGISTRY

def dropped():
    return round(REGISTRY.get_sample_value("token_service_log_lines_dropped_total"))

for _ in range(300):
    if dropped() < 10:
        time.sleep(0.1)
print(dropped())
"""


@pytest.mark.slow
def test_the_descriptor_of_a_closed_stderr_gets_no_line(tmp_path: Path) -> None:
    """The descriptor could be a connection to a store by now. Guard: DESCRIPTOR."""
    script = f"it = open({str(tmp_path / 'other')!r}, 'w'); assert it.fileno() == 2\n"
    script += LINES.format(count=10)
    script += COUNTED
    with python(script, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2)) as process:
        assert process.communicate(timeout=60)[0] == b"10\n"
    assert process.returncode == 0
    assert (tmp_path / "other").read_bytes() == b""


FORK = (
    LINES
    + """
import os

if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    logs.log.info("line of the child", number={count})
"""
)


def test_a_fork_repeats_no_line_and_writes_its_own() -> None:
    """Guard: ``after_in_child`` in lines.py."""
    with python(PATIENT + FORK.format(count=500), stderr=subprocess.PIPE) as process:
        output = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    lines = [line for line in parsed(output) if "DeprecationWarning" not in line["event"]]
    assert len(lines) == 501
    assert sum(line["event"] == "line of the child" for line in lines) == 1


FORKS = """
import os, signal, threading
os.environ["METRICS_MASTER"] = str(os.getpid())  # as gunicorn.conf.py does
from tokenservice.telemetry import logs, metrics

logs.configure("info")

def talk():
    while True:
        logs.log.info("x")

threading.Thread(target=talk, daemon=True).start()
for _ in range(300):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, "a child hangs"
    else:
        signal.alarm(10)
        metrics.CREATED.inc()
        os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fork_copies_no_held_lock(tmp_path: Path) -> None:
    """Guard: ``before`` in lines.py. On a full disk each line is counted, under a lock."""
    files = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with Path("/dev/full").open("w") as full, python(FORKS, files, stderr=full) as process:
        assert process.wait(280) == 0


def test_a_warning_is_a_line_too() -> None:
    """Guard: ``captureWarnings`` in logs.py."""
    script = PATIENT + LINES.format(count=0) + "import warnings; warnings.warn('canary')"
    with python(script, stderr=subprocess.PIPE) as process:
        output = process.communicate(timeout=60)[1]
    [line] = parsed(output)
    assert "UserWarning: canary" in line["event"]


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_a_command_succeeds_without_a_stderr(how: str, service: Service, tmp_path: Path) -> None:
    bash = program("bash")
    done = subprocess.run(
        [bash, "-c", f"{sys.executable} -m flask --app wsgi users list {how}"],
        cwd=tmp_path,
        env=service._environment,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert all("correo" in json.loads(line) for line in done.stdout.splitlines())
