"""Metrics: exact over all workers, in a bounded number of files however often workers die."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.stage.entries import settings
from tests.stage.people import Person, enrol
from tests.stage.service import Service

WORKERS = 3
LIMIT = 40
# A file for each kind of metric, for each worker, for each new one of a reload and for their
# parent; and one file that says that the service accepts requests.
MOST_FILES = 3 * (2 * WORKERS + 1) + 1

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


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

    def scrape(self) -> Scrape:
        page = self.http.get("/metrics")
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/plain")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.scrape().get((name, frozenset(labels.items())), 0)

    def always(self, expected: float, name: str, **labels: str) -> None:
        """Assert that every worker reports the same value."""
        assert [self.value(name, **labels) for _ in range(12)] == [expected] * 12

    def create(self, person: Person, count: int) -> list[httpx.Response]:
        return [self.http.post("/token/create", headers=person.headers) for _ in range(count)]

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
def measured(serve: Callable[..., Service]) -> Iterator[Measured]:
    limits = {"rate_limit_create": f"{LIMIT} per minute"}
    with serve(web_concurrency=WORKERS, **limits) as service:
        running = Measured(service)
        with running.http:
            yield running
    assert not running.files.exists()  # Nothing is left behind.


@pytest.fixture
def someone(measured: Measured) -> Person:
    return enrol(measured.http.post)


def test_counters_are_exact_on_every_worker(measured: Measured, someone: Person) -> None:
    """Guard: ``metrics.exposition`` sums the files of all workers."""
    before = measured.value("onetime_tokens_created_total")
    requests = measured.value("http_requests_total", endpoint="token.create", status="201")
    tokens = [response.json()["token"] for response in measured.create(someone, 30)]
    measured.always(before + 30, "onetime_tokens_created_total")
    labels = {"endpoint": "token.create", "status": "201"}
    measured.always(requests + 30, "http_requests_total", **labels)

    before = measured.value("onetime_tokens_validated_total")
    for token in tokens[:10]:
        body = {"token": token}
        measured.http.post("/token/validate", headers=someone.headers, json=body)
    measured.always(before + 10, "onetime_tokens_validated_total")


def test_refusals_are_counted_by_their_code(measured: Measured, someone: Person) -> None:
    token = measured.create(someone, 1)[0].json()["token"]
    unknown = measured.create(someone, 1)[0].json()["token"]
    presented = {
        "token_already_used": [token] * 4,
        "token_malformed": ["x", unknown[:-1], ""],
    }
    before = {code: measured.value("onetime_tokens_refused_total", code=code) for code in presented}
    for token in [text for texts in presented.values() for text in texts]:
        body = {"token": token}
        measured.http.post("/token/validate", headers=someone.headers, json=body)
    measured.always(
        before["token_already_used"] + 3, "onetime_tokens_refused_total", code="token_already_used"
    )
    measured.always(
        before["token_malformed"] + 3, "onetime_tokens_refused_total", code="token_malformed"
    )


def test_calls_over_a_limit_are_counted_by_the_limit(measured: Measured, someone: Person) -> None:
    before = measured.value("rate_limited_total", limit="create")
    created = measured.value("onetime_tokens_created_total")
    responses = measured.create(someone, LIMIT + 5)
    assert [response.status_code for response in responses].count(429) == 5
    measured.always(before + 5, "rate_limited_total", limit="create")
    measured.always(created + LIMIT, "onetime_tokens_created_total")


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
        before = measured.value("onetime_tokens_created_total")
        assert {response.status_code for response in measured.create(someone, 5)} == {201}
        measured.replace_a_worker()
        measured.always(before + 5, "onetime_tokens_created_total")
    assert len(list(measured.files.iterdir())) <= MOST_FILES


@pytest.mark.slow
def test_a_reload_loses_no_count(measured: Measured, someone: Person) -> None:
    """Guard: ``slot`` in gunicorn.conf.py, which a reload reads again. Without it the new
    workers overwrite each other in one file."""
    before = measured.value("onetime_tokens_created_total")
    measured.service.reload()
    with ThreadPoolExecutor(WORKERS) as threads:
        made = list(threads.map(lambda _: measured.create(someone, 10), range(WORKERS)))
    assert {response.status_code for responses in made for response in responses} == {201}
    measured.always(before + 10 * WORKERS, "onetime_tokens_created_total")
    written = [set(measured.opened(worker)) for worker in measured.service.workers()]
    assert len(set.union(*written)) == sum(map(len, written))


def test_a_starting_worker_does_not_break_the_page(measured: Measured) -> None:
    """A worker creates its file before it fills it; prometheus-client cannot read an empty one.

    Guard: ``metrics.exposition`` tries again.
    """
    starting = measured.files / "gauge_livesum_99.db"
    starting.touch()
    with ThreadPoolExecutor(1) as threads:
        page = threads.submit(measured.http.get, "/metrics")
        time.sleep(0.1)
        starting.unlink()
        assert page.result().status_code == 200


def test_connections_in_use_return_to_zero(measured: Measured, someone: Person) -> None:
    """Also when a worker died with connections in use. Guard: ``child_exit``."""
    stop = time.monotonic() + 1.5

    def hammer(_: int) -> None:
        while time.monotonic() < stop:
            try:
                measured.http.get("/auth/me", headers=someone.headers)
                measured.http.post("/token/validate", headers=someone.headers, json={"token": "x"})
            except httpx.TransportError:
                continue  # The killed worker had this call.

    with ThreadPoolExecutor(8) as threads:
        hammering = threads.map(hammer, range(8))
        time.sleep(0.5)
        measured.replace_a_worker()
        list(hammering)
    measured.always(0, "pool_connections_in_use", pool="postgres")


def test_times_are_measured_for_requests_and_both_stores(
    measured: Measured, someone: Person
) -> None:
    measured.create(someone, 1)
    seen = measured.scrape()
    calls = {dict(labels)["call"] for name, labels in seen if name == "redis_call_seconds_count"}
    assert calls >= {"create", "limit"}
    assert seen["postgres_query_seconds_count", frozenset()] > 0
    assert measured.value("http_request_seconds_count", endpoint="token.create") > 0


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
