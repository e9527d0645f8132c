"""The worker: one thread that waits for no client, and a pool for what is slow."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from flask import Flask
from gunicorn.config import Config
from gunicorn.glogging import Logger

from tests.stage.problems import problem_in
from tests.stage.scrapes import value
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.stage.wire import head, raw, read
from tokenservice.server import pool
from tokenservice.server.pool import BURST_SECONDS, BUSY_SECONDS, Patience
from tokenservice.server.request import Request
from tokenservice.server.worker import Worker
from tokenservice.server.wsgi import Answer
from tokenservice.web.bodies import MAX_BODY_BYTES

DOOR = f"-c {Path(__file__).with_name('door.conf.py')}"
BUNDLE = "/docs/assets/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def door(serve: Callable[..., Service]) -> Iterator[Service]:
    """One worker, in which some calls sleep in the loop and some on the pool."""
    with serve(web_concurrency=1, GUNICORN_CMD_ARGS=DOOR) as running:
        yield running


def slow(seconds: float) -> bytes:
    """A request that takes so long on the pool."""
    return head(f"POST /sleep?{seconds} HTTP/1.1")


def quick(seconds: float = 0) -> bytes:
    """A request that takes so long in the loop."""
    return head(f"GET /sleep?{seconds} HTTP/1.1")


@contextlib.contextmanager
def connected(service: Service, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(sent)
        yield connection


def responses(connection: socket.socket) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """The status, headers and body of each response on a connection."""
    with connection.makefile("rb") as stream:
        while line := stream.readline():
            headers = {}
            while (field := stream.readline()) != b"\r\n":
                name, _, value = field.decode("latin-1").strip().partition(": ")
                headers[name.lower()] = value
            yield int(line.split()[1]), headers, stream.read(int(headers.get("content-length", 0)))


def take(connection: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    return list(itertools.islice(responses(connection), count))


# The order of answers, and the waits of clients for each other.


def test_responses_come_in_the_order_of_requests(door: Service) -> None:
    wanted = [0.3, 0, 0.1, 0, 0]
    with connected(door, b"".join(slow(s) if s else quick() for s in wanted)) as connection:
        bodies = [float(body) for _, _, body in take(connection, len(wanted))]
    assert bodies == wanted


def test_a_slow_request_delays_no_other(door: Service) -> None:
    with connected(door, slow(2)) as busy, connected(door, quick()) as other:
        began = time.monotonic()
        assert take(other, 1)[0][2] == b"0"
        assert httpx.get(f"{door.url}/healthz").status_code == 200
        assert time.monotonic() - began < 1.5
        assert take(busy, 1)[0][2] == b"2"


def test_a_client_with_many_requests_lets_others_go_first(door: Service) -> None:
    """Guard: ``SLICE_SECONDS``, after which the sockets are looked at again."""
    count = 1000
    with connected(door, quick(0.002) * count) as greedy, ThreadPoolExecutor(1) as reader:
        all_of_them = reader.submit(take, greedy, count)
        with connected(door, quick()) as other:
            assert take(other, 1)[0][0] == 200
            assert not all_of_them.done()
        assert Counter(status for status, *_ in all_of_them.result()) == {200: count}


# Clients that are slow.


@pytest.mark.parametrize(
    "part",
    [b"GET / HT", head("POST /auth/login HTTP/1.1", "Content-Length: 9") + b"x"],
)
def test_half_a_request_is_refused_in_time(part: bytes, door: Service) -> None:
    """Guard: ``expire``. Each byte that comes meanwhile does not count."""
    with connected(door, part) as connection:
        began = time.monotonic()
        for _ in range(3):
            time.sleep(0.2)
            connection.sendall(b"x")
        [(status, headers, body)] = take(connection, 2)
    assert 1.5 < time.monotonic() - began < 10
    assert (status, headers["connection"]) == (408, "close")
    assert json.loads(body)["code"] == "bad_request"


def test_a_silent_client_is_left(door: Service) -> None:
    with connected(door) as silent, connected(door, quick()) as idle:
        assert silent.recv(100) == b""
        [(status, headers, _)] = take(idle, 2)  # and then the end
    assert (status, headers["connection"]) == (200, "keep-alive")


@contextlib.contextmanager
def stepped(app: Flask) -> Iterator[tuple[Worker, socket.socket, socket.socket]]:
    """A worker whose loop runs only when it is told to, and two connections to it."""
    cfg = Config()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = Worker(1, os.getppid(), [listener], app, 30, cfg, Logger(cfg))
        worker.wsgi, worker.PIPE = app, os.pipe()
        switch_seconds = sys.getswitchinterval()
        worker.open()
        with (
            socket.create_connection(listener.getsockname(), timeout=30) as one,
            socket.create_connection(listener.getsockname(), timeout=30) as other,
        ):
            until(lambda: worker.turn() or len(worker.connections) == 2)
            yield worker, one, other
            worker.alive = False
        worker.leave()
    sys.setswitchinterval(switch_seconds)
    worker.tmp.close()
    for end in worker.PIPE:
        os.close(end)


def test_a_request_of_the_last_moment_gets_a_response(app: Flask) -> None:
    """Guard: ``Connection.expire``, which reads once more."""
    with stepped(app) as (worker, asks, idle):
        asks.sendall(head("GET /healthz HTTP/1.1"))
        assert worker.selector.select(30)  # It has arrived.
        for connection in list(worker.connections):
            connection.expire()
        assert idle.recv(100) == b""
        until(lambda: worker.turn() or not worker._pool.unfinished)
        assert asks.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("pause", [0.0, 0.45, 1.2])  # seconds in which the loop did nothing
def test_two_requests_may_wait_for_a_moment_after_a_pause(app: Flask, pause: float) -> None:
    """Guard: ``arrived``, which tells the patience of quick requests that nothing waits."""
    with stepped(app) as (worker, *clients):
        worker.turn()
        worker._patience._empty_at -= pause
        for client in clients:
            client.sendall(head("GET /healthz HTTP/1.1"))
        while len(worker._inbox) < 2:
            for key, events in worker.selector.select(1):
                key.data(events)
        worker._patience._empty_at -= 0.2  # The processor was with others.
        for job in worker._inbox:
            job.arrived -= 0.2
        until(lambda: worker.turn() or not (worker._inbox or worker._pool.unfinished))
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_is_left(door: Service) -> None:
    """Guard: the deadline of a reader. What its kernel has taken is all that it gets."""
    request = head(f"GET {BUNDLE} HTTP/1.1")
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        reader.settimeout(30)
        reader.connect(("127.0.0.1", door.port))
        reader.sendall(request * 5)
        [worker] = door.workers()
        reader.recv(1, socket.MSG_PEEK)
        its_end = peer_of(reader, worker)
        assert its_end in door.descriptors(worker)
        until(lambda: its_end not in door.descriptors(worker), 10)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := reader.recv(1 << 20):
                received += len(part)
    assert 0 < received < 5 * len(httpx.get(f"{door.url}{BUNDLE}").content)


def peer_of(connection: socket.socket, worker: int) -> str:
    """The worker's end of a connection, as a name among its descriptors."""
    ends = [connection.getpeername()[1], connection.getsockname()[1]]
    for line in Path(f"/proc/{worker}/net/tcp").read_text().splitlines()[1:]:
        row = line.split()
        if [int(end.rpartition(":")[2], 16) for end in row[1:3]] == ends and row[9] != "0":
            return f"socket:[{row[9]}]"
    return "none"


@pytest.mark.slow
def test_the_longest_idle_makes_room(serve: Callable[..., Service]) -> None:
    """Guard: ``_accept``. No new connection is refused, and none with a request is closed."""
    with (
        serve(web_concurrency=1, GUNICORN_CMD_ARGS=f"{DOOR} --worker-connections 10") as service,
        contextlib.ExitStack() as opened,
    ):
        busy = opened.enter_context(connected(service, slow(0.8)))
        held = [opened.enter_context(connected(service, b"GET /half")) for _ in range(9)]
        with connected(service, quick()) as new:
            assert take(new, 1)[0][0] == 200
            ended, _, _ = select.select(held, [], [], 0.5)
            # One made room, the one whose bytes were read first; unread bytes make that a reset.
            with contextlib.suppress(ConnectionResetError):
                assert [one.recv(100) for one in ended] == [b""]
        assert take(busy, 1)[0][0] == 200
        # Where no connection may be closed, a new one waits.
        opened.enter_context(connected(service, slow(0.5)))
        for _ in range(10):
            opened.enter_context(connected(service, slow(0.5)))
        with connected(service, quick()) as new:
            assert take(new, 1)[0][0] == 200


@pytest.mark.slow
def test_what_waits_for_too_long_is_refused_at_once(serve: Callable[..., Service]) -> None:
    """Guard: ``Pool.overdue``. Of 60 requests that take a tenth of a second each, one by one, those
    of two seconds are served, and the rest is told so then, and not begun."""
    with (
        serve(web_concurrency=1, web_threads=1, GUNICORN_CMD_ARGS=DOOR) as service,
        ThreadPoolExecutor(60) as clients,
    ):
        got: list[httpx.Response] = []
        counted = Counter[int]()
        for _ in range(3):  # A stall takes a part of the two seconds.
            began = time.monotonic()
            asked = [clients.submit(raw, service, slow(0.1)) for _ in range(60)]
            got += (last := [read(one.result()) for one in asked])
            took = time.monotonic() - began
            counted = Counter(one.status_code for one in last)
            assert set(counted) == {200, 503}
            if counted[200] > 10 and took < 4:
                break
        assert counted[200] > 10
        assert took < 4
        refused = [one for one in got if one.status_code == 503]
        problem_in(refused[0], 503, "busy")
        page = httpx.get(f"{service.url}/metrics").text
        assert value(page, "token_service_requests_shed_total") == len(refused)
        assert {one.headers["Retry-After"] for one in refused} == {"1"}
        assert len({one.json()["request_id"] for one in refused}) == len(refused)
        assert {one.headers["X-Request-ID"] for one in refused} == {
            one.json()["request_id"] for one in refused
        }
        until(lambda: '"count"' in service.log.read_text())


def test_a_request_may_wait_in_a_burst_and_not_in_a_queue_that_stays() -> None:
    """Guard: ``Patience``."""
    patience = Patience(2.0)
    assert patience.end([], 100.0) == 98.0
    assert patience.end([1], 101.9) == pytest.approx(99.9)
    assert patience.end([1], 102.1) == pytest.approx(102.1 - BUSY_SECONDS)
    # Eight times what a request takes, but no more than half a second.
    assert patience.end([1], 102.2, 0.05) == pytest.approx(102.2 - 0.4)
    assert patience.end([1], 102.3, 0.9) == pytest.approx(102.3 - 0.5)
    assert patience.end([], 103.0) == 101.0


def test_a_pool_holds_a_burst_after_the_loop_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: ``Pool.add``, which tells the patience that nothing waits."""
    monkeypatch.setattr(pool, "BURST_SECONDS", 0.3)
    run, wake = (lambda _: Answer("204 No Content", [])), (lambda: None)
    without_threads = pool.Pool("test", 0, run, wake, threading.Event())
    time.sleep(0.4)
    now = time.monotonic()
    without_threads.add(pool.Job(Request("GET", b"/", "1.1", [], ("", 0)), now, lambda _: None))
    assert not [*without_threads.overdue(now + 0.2)]
    assert [*without_threads.overdue(now + 0.5)]


@pytest.mark.slow
def test_callers_that_take_turns_are_all_answered_where_requests_take_long(door: Service) -> None:
    """As many as one waits for. Guard: ``Pool._takes``. Not while the machine stalls."""

    def ask(ends_at: float) -> set[int]:
        statuses = set()
        while time.monotonic() < ends_at:
            statuses.add(read(raw(door, slow(0.06))).status_code)
        return statuses

    def statuses() -> set[int]:
        ends_at = time.monotonic() + 2 * BURST_SECONDS
        with ThreadPoolExecutor(24) as clients:
            asked = [clients.submit(ask, ends_at) for _ in range(24)]
        return set().union(*(one.result() for one in asked))

    assert any(statuses() == {200} for _ in range(3))


# The life of a worker.


def test_a_blocked_worker_is_ended(serve: Callable[..., Service]) -> None:
    """gunicorn ends it by its heartbeat, after 30 seconds unless told otherwise."""
    with serve(web_concurrency=1, GUNICORN_CMD_ARGS=f"{DOOR} --timeout 3") as service:
        before = service.workers()
        time.sleep(3.5)  # Without a request it lives.
        assert service.workers() == before
        with connected(service, slow(3.5)) as busy:
            assert take(busy, 1)[0][0] == 200  # A slow request does not block it.
        assert service.workers() == before
        with connected(service, quick(60)) as blocking:
            until(lambda: "WORKER TIMEOUT" in service.log.read_text())
            blocking.close()
        until(lambda: len(now := service.workers()) == 1 and now != before)
        assert httpx.get(f"{service.url}/healthz", timeout=30).status_code == 200


def test_a_stopping_worker_finishes_what_has_begun(serve: Callable[..., Service]) -> None:
    """Guard: ``leave``. A request of the last moment is answered too, and each is the last."""
    with serve(web_concurrency=1, GUNICORN_CMD_ARGS=DOOR) as service:
        [worker] = service.workers()
        with connected(service, slow(2)) as busy, connected(service, quick()) as idle:
            assert take(idle, 1)[0][1]["connection"] == "keep-alive"
            time.sleep(0.1)
            os.kill(worker, signal.SIGTERM)
            time.sleep(0.3)
            idle.sendall(quick())
            [(status, headers, _)] = take(idle, 2)
            assert (status, headers["connection"]) == (200, "close")
            [(status, headers, _)] = take(busy, 2)
            assert (status, headers["connection"]) == (200, "close")
        until(lambda: worker not in service.workers(), 5)
        # A SIGTERM at the moment of the next worker's start would be lost, and gunicorn waits 30 s.
        assert httpx.get(f"{service.url}/healthz", timeout=30).status_code == 200


def test_a_worker_is_replaced_after_its_last_request(serve: Callable[..., Service]) -> None:
    arguments = "--max-requests 20 --max-requests-jitter 5"
    with serve(web_concurrency=1, GUNICORN_CMD_ARGS=arguments) as service:
        [before] = service.workers()
        with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=30) as http:
            for _ in range(60):
                assert http.get(f"{service.url}/healthz").status_code == 200
        until(lambda: before not in service.workers())


@pytest.mark.parametrize(
    "arguments",
    [f"--certfile={__file__} --keyfile={__file__}", "--proxy-protocol", "--strip-header-spaces"],
)
def test_a_setting_that_would_do_nothing_is_refused(
    arguments: str, serve: Callable[..., Service]
) -> None:
    """Guard: ``check_config``."""
    service = serve(web_concurrency=1, GUNICORN_CMD_ARGS=arguments)
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{service.port}"],
        cwd=service.log.parent,
        env=service._environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    name = arguments.split("=", maxsplit=1)[0].strip("-").replace("-", "_")
    assert f"does not support the settings: {name}" in done.stderr, done.stderr


# HTTP.


def test_a_response_to_head_has_a_length_and_no_body(door: Service) -> None:
    for path in ("/healthz", BUNDLE, "/nowhere"):
        with connected(door, head(f"HEAD {path} HTTP/1.1") + quick()) as connection:
            top = connection.makefile("rb")
            lines = list(iter(top.readline, b"\r\n"))
            assert top.readline() == b"HTTP/1.1 200 OK\r\n", path
        length = httpx.get(f"{door.url}{path}").headers["Content-Length"]
        assert b"Content-Length: %b\r\n" % length.encode() in [line.title() for line in lines]


@pytest.mark.parametrize(
    ("version", "given", "returned"),
    [
        ("1.1", "", "keep-alive"),
        ("1.1", "close", "close"),
        ("1.1", "x, Close", "close"),
        ("1.0", "", "close"),
        ("1.0", "keep-alive", "keep-alive"),
    ],
)
def test_a_connection_is_kept_as_the_client_says(
    version: str, given: str, returned: str, door: Service
) -> None:
    fields = [f"Connection: {given}"] if given else []
    with connected(door, head(f"GET /healthz HTTP/{version}", *fields)) as connection:
        status, headers, _ = take(connection, 1)[0]
    assert (status, headers["connection"]) == (200, returned)
    assert headers["server"] == "gunicorn"
    assert headers["date"].endswith(" GMT")


def test_a_body_that_is_too_long_is_refused_before_it_is_there(door: Service) -> None:
    """Guard: ``BodyTooLarge``. The client sees the response though it has not finished."""
    for fields, body in (
        (["Content-Length: 20000", "Expect: 100-continue"], b""),
        (["Content-Length: 20000"], b"x" * 20_000),
        (["Content-Length: 99999999999999999999"], b""),
        (["Transfer-Encoding: chunked"], b"5000\r\n" + b"x" * (MAX_BODY_BYTES + 1)),
    ):
        asked = head("POST /auth/login HTTP/1.1", *fields)
        with connected(door, asked + body) as connection:
            [(status, headers, received)] = take(connection, 2)
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(received)["code"] == "payload_too_large"


def test_a_100_is_for_a_body_that_is_awaited(door: Service) -> None:
    """RFC 9110 section 10.1.1. HTTP/1.0 has none, and no body needs none."""
    for version, length, statuses in (("1.1", 2, [100, 422]), ("1.0", 2, [422]), ("1.1", 0, [422])):
        asked = head(
            f"POST /auth/login HTTP/{version}",
            "Expect: 100-Continue",
            f"Content-Length: {length}",
            "Content-Type: application/json",
        )
        with connected(door, asked) as connection:
            if statuses[0] == 100:
                assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"{}"[:length])
            assert take(connection, 1)[0][0] == 422


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"FOO /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PROPFIND /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"OPTIONS /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_a_rare_request_line_has_one_status(asked: bytes, status: int, door: Service) -> None:
    """RFC 9112 section 3.2: HTTP/1.1 has a host."""
    assert read(raw(door, asked)).status_code == status


def test_a_header_that_stands_twice_is_joined(door: Service) -> None:
    asked = head("GET /nowhere HTTP/1.1", "X-Request-ID: a", "X-Request-ID: b", "Connection: close")
    assert "," not in read(raw(door, asked)).headers["X-Request-ID"]
    asked = head(
        "GET /x HTTP/1.1", "Accept-Language: fr", "Accept-Language: en", "Connection: close"
    )
    assert read(raw(door, asked)).headers["Content-Language"] == "en"
