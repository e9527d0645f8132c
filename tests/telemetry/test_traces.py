"""Traces: a real exporter sends the spans of a real service to a real receiver of OTLP."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import dev
from tests.stage.collector import Collector, Received
from tests.stage.keys import bearer, new_key
from tests.stage.paths import ROOT
from tests.stage.people import PASSWORD, WRONG_PASSWORD, Person, enrol, new_correo
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.canaries import Canaries
from tokenservice.telemetry import traces

pytestmark = pytest.mark.slow
ADDRESS = "203.0.113.77"
SPAN = "00f067aa0ba902b7"
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


class Traced:
    """A traced service, and its collector."""

    def __init__(self, service: Service, collector: Collector, redis: Proxy) -> None:
        self.service, self.collector, self.redis = service, collector, redis
        self.http = httpx.Client(base_url=service.url, timeout=30)
        self.http.headers["X-Forwarded-For"] = ADDRESS
        self.person = enrol(self.http.post)

    def call(
        self, method: str, path: str, *, flags: str = "01", **options: Any
    ) -> tuple[httpx.Response, str]:
        """Make a call within a trace of its own; return the response, and the id of the trace."""
        trace_id = secrets.token_hex(16)
        headers = {**self.person.headers, **options.pop("headers", {})}
        headers["traceparent"] = f"00-{trace_id}-{SPAN}-{flags}"
        return self.http.request(method, path, headers=headers, **options), trace_id

    def line(self, trace_id: str) -> dict[str, Any]:
        """The line of a call in the log."""

        def lines() -> list[dict[str, Any]]:
            found = self.service.lines(trace_id)
            return [line for line in found if line.get("trace_id") == trace_id]

        until(lambda: bool(lines()))
        [line] = lines()
        return line


@pytest.fixture(scope="module")
def traced(serve: Callable[..., Service], redis_server: dev.Redis) -> Iterator[Traced]:
    with Collector() as collector, Proxy(redis_server.port) as redis:
        address = redis_server.url.replace(f":{redis_server.port}", f":{redis.port}")
        settings = {
            **OFTEN,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        with serve(web_concurrency=2, redis_url=address, trusted_proxies=1, **settings) as service:
            running = Traced(service, collector, redis)
            with contextlib.closing(running.http):
                yield running


def server_of(spans: list[Received]) -> Received:
    [server] = [span for span in spans if span.kind == "SERVER"]
    return server


def children_of(spans: list[Received]) -> list[Received]:
    parent = server_of(spans)
    return [span for span in spans if span.parent_id == parent.span_id]


def known(traced: Traced) -> None:
    """Make the caller known to both workers, so that the direct door lets it in."""
    for _ in range(8):
        httpx.get(f"{traced.service.url}/auth/me", headers=traced.person.headers, timeout=30)


def test_a_call_is_traced_from_its_caller_to_redis(traced: Traced) -> None:
    """In both doors alike. Guards: ``Door._answer``, and ``hooks.init_app``."""
    known(traced)
    # A query closes the direct door.
    for path in ("/token/create", "/token/create?x=1"):
        response, trace_id = traced.call("POST", path, json={"purpose": "chat"})
        assert response.status_code == 201
        spans = traced.collector.of(trace_id, 2)
        server = server_of(spans)
        assert (server.name, server.parent_id) == ("POST /token/create", SPAN)
        assert server.attributes == {
            "http.request.method": "POST",
            "http.route": "/token/create",
            "http.response.status_code": 201,
            "url.scheme": "http",
            "token_service.token_id": response.json()["id"],
        }
        assert not server.is_error
        assert server.resource["service.name"] == "token-service"
        assert server.resource["deployment.environment.name"] == "test"
        [redis] = [span for span in children_of(spans) if span.name == "create"]
        assert redis.kind == "CLIENT"
        assert redis.attributes == {"db.system.name": "redis", "db.operation.name": "create"}
        assert server.start <= redis.start <= redis.end <= server.end
        line = traced.line(trace_id)
        assert (line["trace_id"], line["span_id"]) == (trace_id, server.span_id)
        assert response.headers["X-Request-ID"] == trace_id


def test_a_login_is_traced_to_postgres(traced: Traced) -> None:
    credentials = {"correo": traced.person.correo, "password": PASSWORD}
    _, trace_id = traced.call("POST", "/auth/login?next=canary", json=credentials)
    spans = traced.collector.of(trace_id, 4)
    queries = [
        span for span in children_of(spans) if span.attributes["db.system.name"] == "postgresql"
    ]
    assert {"SELECT users", "INSERT sessions"} <= {span.name for span in queries}
    [select, *_] = [span for span in queries if span.name == "SELECT users"]
    assert select.attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.collection.name": "users",
    }
    assert server_of(spans).name == "POST /auth/login"


def test_a_path_with_an_id_is_traced_by_its_route(traced: Traced) -> None:
    made = traced.http.post("/token/create", headers=traced.person.headers).json()
    headers = {"X-Forwarded-Proto": "https"}
    _, trace_id = traced.call("GET", f"/token/{made['id']}", headers=headers)
    server = server_of(traced.collector.of(trace_id, 2))
    assert server.name == "GET /token/<token_id:token_id>"
    assert server.attributes["http.route"] == "/token/<token_id:token_id>"
    assert server.attributes["url.scheme"] == "https"


def test_a_refusal_names_its_problem_and_is_no_error(traced: Traced) -> None:
    made = traced.http.post("/token/create", headers=traced.person.headers).json()
    body = {"token": made["token"], "issued_by": [traced.person.id]}
    statuses = []
    for _ in range(2):
        response, trace_id = traced.call("POST", "/token/consume", json=body)
        statuses.append(response.status_code)
    assert statuses == [200, 409]
    server = server_of(traced.collector.of(trace_id, 2))
    assert server.attributes["token_service.problem"] == "token_already_used"
    assert server.attributes["token_service.token_id"] == made["id"]
    assert not server.is_error
    assert "error.type" not in server.attributes


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/nowhere", "GET"), ("PROPFIND", "/token/create", "HTTP")],
)
def test_no_text_of_a_client_names_a_span(
    method: str, path: str, name: str, traced: Traced
) -> None:
    _, trace_id = traced.call(method, path)
    server = server_of(traced.collector.of(trace_id))
    assert server.name == name
    assert "http.route" not in server.attributes
    assert method not in ("PROPFIND",) or server.attributes["http.request.method"] == "_OTHER"


def test_a_missing_redis_is_an_error_with_its_kind(traced: Traced) -> None:
    """503, from the span of the call that failed to that of the response."""
    known(traced)
    traced.redis.refuse()
    try:
        response, trace_id = traced.call("POST", "/token/create", json={"purpose": "chat"})
    finally:
        traced.redis.mend()
    assert response.status_code == 503
    spans = traced.collector.of(trace_id, 2)
    server = server_of(spans)
    assert server.is_error
    assert server.attributes["error.type"] == "store_unavailable"
    assert server.attributes["token_service.problem"] == "store_unavailable"
    # A caller that is read again has queries too.
    [redis] = [span for span in children_of(spans) if span.attributes["db.system.name"] == "redis"]
    assert redis.is_error
    assert redis.attributes["error.type"] in ("refused", "connection lost")


def test_the_parent_decides_whether_a_call_is_sampled(traced: Traced) -> None:
    """And a call without a trace begins one. Guards: ``PARENTS``, and the sampler's default."""
    _, unsampled = traced.call("GET", "/auth/me", flags="00")
    response = traced.http.get("/auth/me", headers=traced.person.headers)
    begun = response.headers["X-Request-ID"]
    [root, *_] = traced.collector.of(begun)
    assert root.parent_id == ""
    assert traced.line(begun)["span_id"] == root.span_id
    line = traced.line(unsampled)
    assert line["trace_id"] == unsampled
    assert "span_id" not in line
    assert unsampled not in {span.trace_id for span in traced.collector.spans}


def test_probes_are_not_traced(traced: Traced) -> None:
    """Nor are the queries without a call, which each worker makes once a second."""
    for path in ("/healthz", "/readyz", "/metrics"):
        traced.call("GET", path)
    _, trace_id = traced.call("GET", "/auth/me")
    traced.collector.of(trace_id)
    roots = {span.name for span in traced.collector.spans if span.kind == "SERVER"}
    assert not roots & {"GET /healthz", "GET /readyz", "GET /metrics"}

    def all_belong_to_calls() -> bool:
        spans = [*traced.collector.spans]
        calls = {span.span_id for span in spans if span.kind == "SERVER"}
        return all(span.parent_id in calls for span in spans if span.kind == "CLIENT")

    until(all_belong_to_calls)


def test_no_byte_of_a_span_holds_a_secret_or_an_address(traced: Traced) -> None:
    canaries = Canaries()
    correo = canaries.add("correo", new_correo())
    canaries.add("name", "Canaria de los Palotes")
    canaries.add("password", PASSWORD)
    canaries.add("wrong password", WRONG_PASSWORD)
    canaries.add("address", ADDRESS)
    query = canaries.add("query", "canariaenlaquery")
    account = {"nombre": "Canaria de los Palotes", "correo": correo, "password": PASSWORD}
    traced.call("POST", "/auth/register", json=account)
    traced.call("POST", "/auth/login", json={"correo": correo, "password": WRONG_PASSWORD})
    login, _ = traced.call("POST", "/auth/login", json={"correo": correo, "password": PASSWORD})
    canaries.add("refresh token", login.json()["refresh_token"])
    person = Person("", correo, bearer(canaries.add("jwt", login.json()["access_token"])))
    key = canaries.add("key", new_key(traced.http.post, person)["key"])
    headers = {**bearer(key), "traceparent": f"00-{secrets.token_hex(16)}-{SPAN}-01"}
    headers["tracestate"] = f"canary={canaries.add('tracestate', 'canariadelestado')}"
    for _ in range(4):
        given = {"audience": [correo], "purpose": "chat", "data": {"a": "canariaendatos"}}
        canaries.add("data", "canariaendatos")
        made = traced.http.post(f"/token/create?x={query}", headers=headers, json=given)
        token = canaries.add("token", made.json()["token"])
        body = {"token": token, "purpose": "chat", "issued_by": [correo]}
        held = traced.http.post("/token/reserve", headers=headers, json=body).json()
        canaries.add("reservation", held["reservation"])
        gate = f"/token/gate?purpose=chat&issued_by={correo}"
        traced.http.get(gate, headers={**headers, "X-Original-URI": f"/?ticket={token}"})
        traced.http.get(f"/{token}/{correo}", headers=headers)
        traced.http.post(f"/token/consume/{token}", headers=headers)
    _, trace_id = traced.call("GET", f"/auth/me?correo={correo}")
    traced.collector.of(trace_id)
    time.sleep(0.3)  # The other worker sends its last spans.
    assert traced.collector.raw
    assert canaries.found_in("the spans", traced.collector.raw) == []
    assert b"127.0.0.1" not in traced.collector.raw.replace(traced.collector.url[7:].encode(), b"")


def test_a_reload_and_an_end_lose_no_span(traced: Traced) -> None:
    """Guards: ``exporting.end`` of each old worker; ``exporting.start`` of each new one."""
    ids = [traced.call("GET", "/auth/me")[1] for _ in range(4)]
    traced.service.reload()
    ids += [traced.call("GET", "/auth/me")[1] for _ in range(4)]
    for trace_id in ids:
        assert server_of(traced.collector.of(trace_id)).name == "GET /auth/me"


# A collector that hangs or refuses.


def test_a_collector_that_hangs_or_refuses_slows_nothing(serve: Callable[..., Service]) -> None:
    """More spans than the queue holds, one line in the log, and an end in time.

    Guards: ``exporting.Reports``, and ``LAST_SECONDS``, without which the end waits for each batch.
    """
    settings = {
        **OFTEN,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        "OTEL_SERVICE_NAME": "tokens of a test",
    }
    with Collector() as collector:
        collector.passes.clear()
        settings["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{collector.url}/?key=canaria"
        with (
            serve(web_concurrency=1, **settings) as service,
            httpx.Client(base_url=service.url, timeout=30) as http,
        ):
            headers = enrol(http.post).headers

            def call() -> bool:
                return http.get("/auth/me", headers=headers).status_code == 200

            assert all(call() for _ in range(30))
            until(lambda: collector.requests > 0)  # The first batch hangs meanwhile.
            until(lambda: "traces.not_exported" in service.log.read_text())
            collector.status = 500
            collector.passes.set()
            refused = collector.requests
            until(lambda: call() and collector.requests > refused + 3)
            collector.status = 200
            until(lambda: call() and bool(collector.spans))
            collector.passes.clear()
            assert all(call() for _ in range(30))
            started = time.monotonic()
        assert time.monotonic() - started < 8
    assert collector.spans[0].resource["service.name"] == "tokens of a test"
    log = service.log.read_text()
    assert log.count("traces.not_exported") == 1
    assert log.count("Failed to export") <= 1
    assert "canaria" not in log


# Without the extra.

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("opentelemetry", "google", "requests"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def test_the_service_runs_without_the_extra_and_says_so_once(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    settings = {"PYTHONPATH": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with (
        serve(web_concurrency=2, **settings) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        person = enrol(http.post)
        assert http.post("/token/create", headers=person.headers).status_code == 201
    log = service.log.read_text()
    assert log.count("Traces are off: the extra is missing.") == 1
    assert "span_id" not in log


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("given", "is_on", "hindrance"),
    [
        ({}, False, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, ""),
        (COLLECTOR, True, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True, ""),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "true"}, False, ""),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, False, ""),
        ({**COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, ""),
        ({**COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, "http/protobuf alone"),
    ],
)
def test_the_environment_turns_traces_on(
    given: dict[str, str], is_on: bool, hindrance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (traces.module("spans") is not None) == is_on
    assert hindrance in traces.hindrance()
    assert bool(traces.hindrance()) == bool(hindrance)


def test_nothing_of_opentelemetry_is_loaded_while_traces_are_off() -> None:
    """But for what redis-py loads by itself, where it is installed."""
    script = (
        "import sys; from config import Config; from tokenservice import create_app;"
        "create_app(Config(secret_key='x' * 32));"
        "print([name for name in sys.modules if 'spans' in name or '.otlp' in name])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
