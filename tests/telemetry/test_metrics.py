"""Metrics: exact over all workers, in a bounded number of files however often workers die."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import text

import dev
from tests.stage.entries import settings
from tests.stage.people import Person, enrol
from tests.stage.scrapes import Scrape, scraped, value
from tests.stage.service import Service
from tests.stage.waiting import served, until
from tokenservice.extensions import db
from tokenservice.telemetry import failures
from tokenservice.telemetry.exposition import OLD_NAMES, PREFIX

WORKERS = 3
LIMIT = 40
# A file for each kind of metric, for each worker, for each new one of a reload and for their
# parent; and one file that says that the service accepts requests.
MOST_FILES = 3 * (2 * WORKERS + 1) + 1


class Measured:
    """A service of three workers; each call has its own connection, so any may respond."""

    def __init__(self, service: Service) -> None:
        self.service = service
        (self.files,) = {path.parent for path in self.opened(service.workers()[0])}
        self.http = httpx.Client(base_url=service.url, timeout=30, headers={"Connection": "close"})

    def opened(self, worker: int) -> list[Path]:
        """The files of metrics that a worker has open."""
        names = map(Path, self.service.descriptors(worker))
        return [path for path in names if path.suffix == ".db"]

    def page(self) -> str:
        page = self.http.get("/metrics")
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/plain")
        return page.text

    def scrape(self) -> Scrape:
        return scraped(self.page())

    def value(self, name: str, **labels: str) -> float:
        return value(self.page(), name, **labels)

    def more(self, before: Scrape, name: str, **labels: str) -> float:
        """The rise of a counter since a scrape."""
        return self.value(name, **labels) - before.get((name, frozenset(labels.items())), 0)

    def post(self, person: Person, path: str, key: str = "", **body: object) -> Any:
        """The body of a call that succeeds."""
        headers = {**person.headers, **({"Idempotency-Key": key} if key else {})}
        response = served(lambda: self.http.post(f"/token/{path}", headers=headers, json=body))
        assert response.is_success, response.text
        return response.json() if response.content else None

    def always(self, expected: float, name: str, **labels: str) -> None:
        """Assert that every worker reports the same value."""
        assert [self.value(name, **labels) for _ in range(12)] == [expected] * 12

    def create(self, person: Person, count: int) -> list[httpx.Response]:
        def call() -> httpx.Response:
            return self.http.post("/token/create", headers=person.headers)

        return [served(call) for _ in range(count)]

    def replace_a_worker(self) -> None:
        """kill -9 one worker, and wait until there are as many as before."""
        before = self.service.workers()
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            now = self.service.workers()
            if len(now) == len(before) and before[0] not in now:
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(scope="module")
def measured(serve: Callable[..., Service], own_redis: dev.Redis) -> Iterator[Measured]:
    limits = {"rate_limit_create": f"{LIMIT} per minute"}
    with serve(web_concurrency=WORKERS, redis_url=own_redis.url, **limits) as service:
        running = Measured(service)
        with running.http:
            yield running
    assert not running.files.exists()  # Nothing is left behind.


@pytest.fixture
def someone(measured: Measured) -> Person:
    return enrol(measured.http.post)


def test_counters_are_exact_on_every_worker(measured: Measured, someone: Person) -> None:
    """Guard: ``exposition.Counted`` sums the files of all workers."""
    created, consumed = (f"token_service_tokens_{turn}_total" for turn in ("created", "consumed"))
    requests = "token_service_http_requests_total"
    labels = {"endpoint": "token.create", "status": "201"}
    before = [measured.value(name) for name in (created, consumed)]
    before.append(measured.value(requests, **labels))
    # Each is alive at once, and not after so many scrapes.
    tokens = [response.json()["token"] for response in measured.create(someone, 30)]
    for token in tokens[:10]:
        measured.post(someone, "validate", token=token)
    measured.always(before[0] + 30, created)
    measured.always(before[1] + 10, consumed)
    measured.always(before[2] + 30, requests, **labels)


def test_refusals_are_counted_by_their_code(measured: Measured, someone: Person) -> None:
    token = measured.create(someone, 1)[0].json()["token"]
    unknown = measured.create(someone, 1)[0].json()["token"]
    presented = {
        "token_already_used": [token] * 4,
        "token_malformed": ["x", unknown[:-1], ""],
    }
    before = {
        code: measured.value("token_service_tokens_refused_total", code=code) for code in presented
    }
    for token in itertools.chain(*presented.values()):
        body = {"token": token}
        measured.http.post("/token/validate", headers=someone.headers, json=body)
    measured.always(
        before["token_already_used"] + 3,
        "token_service_tokens_refused_total",
        code="token_already_used",
    )
    measured.always(
        before["token_malformed"] + 3, "token_service_tokens_refused_total", code="token_malformed"
    )


def test_calls_over_a_limit_are_counted_by_the_limit(measured: Measured, someone: Person) -> None:
    before = measured.value("token_service_requests_limited_total", limit="create")
    created = measured.value("token_service_tokens_created_total")
    responses = measured.create(someone, LIMIT + 5)
    assert [response.status_code for response in responses].count(429) == 5
    measured.always(before + 5, "token_service_requests_limited_total", limit="create")
    measured.always(created + LIMIT, "token_service_tokens_created_total")


def test_labels_name_endpoints_never_paths_or_accounts(measured: Measured, someone: Person) -> None:
    """A client must not choose a label by its path, or the page grows without end."""
    token = measured.create(someone, 1)[0].json()["token"]
    for path in (f"/token/{token}/x", "/wp-login.php", "/problems/canary-code", "/%2e%2e/canary"):
        measured.http.get(path, headers=someone.headers)
    measured.http.request("CANARY", "/token/create", headers=someone.headers)
    page = measured.http.get("/metrics").text
    for secret in (token, "wp-login", "canary", "CANARY", someone.id, someone.correo):
        assert secret not in page
    names = {dict(labels).get("endpoint", "none") for _, labels in measured.scrape() if labels}
    assert "token.create" in names
    assert not [name for name in names if "/" in name]


def test_a_killed_worker_loses_no_count_and_leaves_no_file(
    measured: Measured, someone: Person
) -> None:
    """Guard: ``gunicorn.conf.py`` keeps files by the number of a worker, not by its pid."""
    for _ in range(6):
        before = measured.value("token_service_tokens_created_total")
        assert {response.status_code for response in measured.create(someone, 5)} == {201}
        measured.replace_a_worker()
        measured.always(before + 5, "token_service_tokens_created_total")
    assert len(list(measured.files.iterdir())) <= MOST_FILES


@pytest.mark.slow
def test_a_reload_loses_no_count(measured: Measured, someone: Person) -> None:
    """Guard: ``slot`` in gunicorn.conf.py, which a reload reads again. Without it the new
    workers overwrite each other in one file."""
    before = measured.value("token_service_tokens_created_total")
    measured.service.reload()
    with ThreadPoolExecutor(WORKERS) as threads:
        made = list(threads.map(lambda _: measured.create(someone, 10), range(WORKERS)))
    assert {response.status_code for responses in made for response in responses} == {201}
    measured.always(before + 10 * WORKERS, "token_service_tokens_created_total")
    written = [set(measured.opened(worker)) for worker in measured.service.workers()]
    assert len(set.union(*written)) == sum(map(len, written))


def test_a_starting_worker_does_not_break_the_page(measured: Measured) -> None:
    """A worker creates its file before it fills it; prometheus-client cannot read an empty one.

    Guard: ``exposition.Counted`` tries again.
    """
    starting = measured.files / "gauge_livesum_99.db"
    starting.touch()
    with ThreadPoolExecutor(1) as threads:
        page = threads.submit(measured.http.get, "/metrics")
        time.sleep(0.1)
        starting.unlink()
        assert page.result().status_code == 200


def test_connections_in_use_return_to_zero(app: Flask, measured: Measured, someone: Person) -> None:
    """Also when workers died with connections in use. Guard: ``child_exit``."""

    def in_use() -> float:
        return measured.value("token_service_connections_in_use", pool="postgres")

    def end_sessions(_: int) -> None:
        while not done.is_set():
            with contextlib.suppress(httpx.TransportError):  # The killed worker had this call.
                measured.http.post("/auth/logout-all", headers=someone.headers)

    done = threading.Event()
    locked = text("SELECT FROM sessions WHERE user_id = :id FOR UPDATE")
    with ThreadPoolExecutor(8) as threads:
        with app.app_context(), db.engine.connect() as connection:
            connection.execute(locked, {"id": someone.id})
            waiting = threads.map(end_sessions, range(8))
            try:
                for _ in range(WORKERS):
                    until(lambda: in_use() > WORKERS)
                    measured.replace_a_worker()
            finally:
                done.set()
        list(waiting)
    # Never for long: in each worker the look at changed accounts uses one once a second.
    until(lambda: in_use() == 0)


def test_times_are_measured_for_requests_and_both_stores(
    measured: Measured, someone: Person
) -> None:
    measured.create(someone, 1)
    seen = measured.scrape()
    calls = {
        dict(labels)["call"]
        for name, labels in seen
        if name == "token_service_redis_call_duration_seconds_count"
    }
    assert calls >= {"create", "limit"}
    assert seen["token_service_postgres_query_duration_seconds_count", frozenset()] > 0
    assert (
        measured.value("token_service_http_request_duration_seconds_count", endpoint="token.create")
        > 0
    )


def test_each_turn_of_a_token_is_counted_once(measured: Measured, someone: Person) -> None:
    """Guards: ``replayed`` of each verb. A repeat under a key is a replay and no second turn."""
    before = measured.scrape()

    def rose(**expected: int) -> None:
        found = {name: measured.more(before, f"token_service_{name}_total") for name in expected}
        assert found == expected

    def replayed(verb: str) -> float:
        return measured.more(before, "token_service_responses_replayed_total", verb=verb)

    def twice(path: str, **body: object) -> Any:
        first, _ = (measured.post(someone, path, "k", **body) for _ in range(2))
        return first

    made = {"purpose": "chat", "expires_in": 60}
    texts = [twice("create", **made)["token"]]
    texts += [measured.post(someone, "create", **made)["token"] for _ in range(3)]
    terms = {"purpose": "chat", "issued_by": [someone.id]}
    twice("consume", token=texts[0], **terms)
    rose(tokens_created=4, tokens_consumed=1)
    held = twice("reserve", token=texts[1], **terms)["reservation"]
    measured.post(someone, "release", reservation=held)
    held = measured.post(someone, "reserve", token=texts[1], **terms)["reservation"]
    twice("commit", reservation=held)
    rose(reservations_made=2, reservations_released=1, reservations_committed=1)
    measured.post(someone, "revoke", token=texts[2])
    measured.post(someone, "revoke-all", purpose="chat")
    measured.post(someone, "revoke-all")
    rose(tokens_created=4, tokens_consumed=2, tokens_revoked=1)
    assert [replayed(verb) for verb in ("create", "consume", "reserve", "commit")] == [1] * 4
    cuts = "token_service_cuts_total"
    assert [measured.more(before, cuts, of=part) for part in ("purpose", "all")] == [1, 1]
    ages = "token_service_token_age_at_consume_seconds"
    assert measured.more(before, f"{ages}_count") == 2
    assert 0 < measured.more(before, f"{ages}_sum") < 120


def test_tokens_in_redis_are_counted_by_any_worker(measured: Measured, someone: Person) -> None:
    """Guard: ``Gauges._census``. A second later, as it is not asked anew for each scrape."""
    names = [f"token_service_tokens_{state}" for state in ("outstanding", "reserved")]

    def counted() -> list[float]:
        return [measured.value(name, shard="0") for name in names]

    until(lambda: counted() == [0, 0])  # Those of other tests end.
    text = measured.post(someone, "batch", count=5, expires_in=60, purpose="chat")["tokens"][0]
    terms = {"purpose": "chat", "issued_by": [someone.id]}
    measured.post(someone, "reserve", token=text["token"], lease_seconds=60, **terms)
    until(lambda: [counted() for _ in range(6)] == [[5, 1]] * 6)
    measured.post(someone, "revoke-all")


def test_old_names_have_the_same_values(measured: Measured, someone: Person) -> None:
    """Guard: ``renamed``. Of counters, gauges and histograms alike."""
    measured.create(someone, 3)
    page = measured.scrape()
    for new, old in OLD_NAMES.items():
        ends = ("_total", "_bucket", "_sum", "_count", "")
        found = [
            {key: page[key] for key in page if key[0] == name + end}
            for end in ends
            for name in (PREFIX + new, old)
        ]
        assert sum(map(len, found)) > 0
        for now, then in zip(found[::2], found[1::2], strict=True):
            assert [*now.values()] == [*then.values()]
            assert [key[1] for key in now] == [key[1] for key in then]


def test_processes_are_summed(measured: Measured, someone: Person) -> None:
    """Guards: ``Processes``: each worker counts, and one that has ended keeps its time."""
    pids = [measured.service.process.pid, *measured.service.workers()]
    seen = {name: number for (name, labels), number in measured.scrape().items() if not labels}
    assert seen["token_service_workers"] == WORKERS
    assert abs(time.time() - seen["token_service_process_start_time_seconds"]) < 600
    opened = sum(len(measured.service.descriptors(pid)) for pid in pids)
    assert abs(seen["token_service_process_open_fds"] - opened) < 10 * len(pids)
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids]
    # Shared pages count once: less than the sum of the processes, and more than the largest.
    assert max(pages) / 2 < seen["token_service_process_resident_memory_bytes"] < sum(pages)
    name = "token_service_process_cpu_seconds_total"
    spent = measured.value(name)
    assert spent > 1  # Each process has loaded all modules.
    measured.replace_a_worker()
    assert measured.value(name) >= spent


def test_threads_of_all_workers_are_counted(measured: Measured) -> None:
    """Guard: ``Pool.measure``. A scrape itself runs in one of the threads."""
    until(lambda: measured.value("token_service_threads", pool="pool") == 8 * WORKERS)
    assert measured.value("token_service_threads", pool="hashing") == 64 * WORKERS
    for name in ("threads_busy", "thread_requests_waiting"):
        assert 0 <= measured.value(f"token_service_{name}", pool="pool") <= 8 * WORKERS


def test_failures_and_readiness_tell_of_a_store_that_is_down(
    measured: Measured, someone: Person, own_redis: dev.Redis
) -> None:
    """Guards: ``RedisCall.__exit__``, ``Gauges``. A kind is known before it happens."""
    before = measured.scrape()
    mastership = before["token_service_redis_mastership", frozenset({("shard", "0")})]
    ready = ("token_service_ready", "token_service_part_ready")
    assert {number for (name, _), number in before.items() if name in ready} == {1}
    own_redis.stop()
    try:
        call = measured.http.post("/token/create", headers=someone.headers)
        assert call.status_code == 503
        until(lambda: measured.value("token_service_part_ready", part="redis") == 0)
        assert measured.value("token_service_part_ready", part="postgres") == 1
        assert measured.value("token_service_ready") == 1  # Much works without Redis.
        assert ("token_service_tokens_outstanding", frozenset({("shard", "0")})) not in (
            measured.scrape()
        )
        errors = {
            dict(labels)["kind"]: measured.more(before, name, **dict(labels))
            for name, labels in before
            if name == "token_service_store_errors_total" and ("store", "redis") in labels
        }
        assert set(errors) == {*failures.KINDS, "other"}
        assert errors["refused"] + errors["connection lost"] >= 1
    finally:
        own_redis.start()
    until(lambda: measured.value("token_service_part_ready", part="redis") == 1)
    until(
        lambda: measured.value("token_service_redis_mastership", shard="0") not in (0, mastership)
    )
    until(lambda: measured.value("token_service_redis_memory_used_bytes", master="0") > 0)


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
@pytest.mark.parametrize("entry", ["flask", "gunicorn"])
def test_the_metrics_of_another_program_stay_as_they_are(
    entry: str, name: str, tmp_path: Path
) -> None:
    """Its folder got files of ours, and a command without it ended in a traceback."""
    given = {"secret_key": secrets.token_urlsafe(48)}
    (tmp_path / "metrics").mkdir()
    settings(entry, tmp_path, {**given, name: "metrics"})
    assert not list((tmp_path / "metrics").iterdir())
    settings(entry, tmp_path, {**given, name: "missing"})
