"""The log of the shipped proxy: a line of JSON for each response, and nothing hostile in it."""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask

import dev
from dev.server import free_port
from tests.stage.waiting import until
from tests.torture.haproxy import HAProxy, needs_haproxy, raw_response
from tests.torture.ledger import record, trials
from tests.torture.witness import Witness

pytestmark = needs_haproxy

TEXTS = {"request_id", "client_address", "method", "path", "server", "termination", "tls"}
NUMBERS = {"status", "ms", "request_ms", "queue_ms", "connect_ms", "response_ms"}
NUMBERS |= {"bytes_in", "bytes_out"}
#: Of a request that HAProxy cannot read, or a connection without a handshake.
UNREAD_TEXTS = {"client_address", "handshake", "termination", "tls"}
#: What stands in each hostile text, and must not stand in the log.
MARK = "zqzsecretzqz"
HOSTILE = [
    f'{MARK}", "status": 1, "x": "',
    f"{MARK}\\",
    f"{MARK}%0A{{%22event%22:1}}",
    f"{MARK}%22%5C%00%1b[31m",
    f"{MARK}\t\x1b[31m\x7f",
    f"{MARK}\N{LINE SEPARATOR}é\N{PILE OF POO}",
    f"{MARK}@example.com",
    f"{MARK}%[env(PATH)]%{{+Q}}o${{PATH}}",
    f"/{MARK}/" * 150,
    f"ott_{MARK}{'7' * 58}",
    f"token/{MARK}/create?{MARK}#{MARK}",
]
HEADERS = ("X-Request-ID", "traceparent", "Host", "Referer", "X-Original-URI", "X-Forwarded-Uri")
HEADERS += ("Origin", "Accept-Language", "User-Agent", "X-Forwarded-For", "Cookie")


def line_of(proxy: HAProxy, request_id: str) -> dict[str, Any]:
    """The only line with that id, a moment after the response."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [line for line in proxy.lines() if line.get("request_id") == request_id]
        return found != []

    until(is_there)
    (line,) = found
    return line


def asked(proxy: HAProxy, target: str, method: str = "GET") -> dict[str, Any]:
    """The line of a request under an id of its own."""
    id_ = f"line-{secrets.token_hex(8)}"
    ask = f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-Request-ID: {id_}\r\nConnection: close\r\n"
    raw_response(proxy.port, f"{ask}\r\n".encode())
    return line_of(proxy, id_)


def check(line: dict[str, Any]) -> None:
    """A line has each of its members, in its type."""
    assert line.pop("event") in ("proxy.answered", "proxy.refused")
    written = datetime.strptime(line.pop("timestamp"), "%Y-%m-%dT%H:%M:%S.%f%z")
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)
    texts = {name for name, value in line.items() if type(value) is str}
    numbers = {name for name, value in line.items() if type(value) is int}
    assert (texts, numbers) in ((TEXTS, NUMBERS), (UNREAD_TEXTS, {"status"}))


def test_a_response_of_the_service_has_a_line(proxy: HAProxy) -> None:
    """Without the query. Guard: no ``option dontlog-normal`` in haproxy.cfg."""
    line = asked(proxy, f"/token/create?ticket={MARK}", "POST")
    told = {
        name: line[name]
        for name in ("event", "client_address", "method", "path", "status", "server")
    }
    assert told == {
        "event": "proxy.answered",
        "client_address": "127.0.0.1",
        "method": "POST",
        "path": "/token/create",
        "status": 200,
        "server": "service/one",
    }
    assert (line["termination"], line["tls"]) == ("--", "-")
    assert line["ms"] >= line["response_ms"] >= 0
    assert line["bytes_in"] > 50
    assert line["bytes_out"] > 50
    check(line)
    late = asked(proxy, "/takes/0.2")
    assert (late["path"], late["server"]) == ("/*/*", "long/inside")
    assert 5_000 > late["response_ms"] >= 199


def test_the_refusals_of_the_proxy_have_lines(proxy: HAProxy, tmp_path: Path) -> None:
    for target, status in (("/metrics", 404), ("/hangs-up", 502)):
        line = asked(proxy, target)
        assert line["status"] == status
        check(line)
    with HAProxy(tmp_path, [free_port()]) as away:
        until(lambda: asked(away, "/token/create")["server"] == "clients/<NOSRV>")
        line = asked(away, "/token/create")
        assert (line["status"], line["queue_ms"]) == (503, -1)
        check(line)


def test_a_preflight_has_a_line(seen: Witness, tmp_path: Path) -> None:
    origin = "https://app.example.com"
    with HAProxy(tmp_path, [seen.port], CORS_ORIGINS=origin) as proxy:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = httpx.options(f"{proxy.url}/token/create", headers=headers)
        line = line_of(proxy, response.headers["X-Request-ID"])
    assert (line["method"], line["status"]) == ("OPTIONS", 204)


def test_responses_at_once_have_a_line_each(seen: Witness, tmp_path: Path) -> None:
    """Guard: ``nbthread 1`` in haproxy.cfg. Two threads that write at once lose lines."""
    ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with HAProxy(tmp_path, [seen.port]) as proxy, ThreadPoolExecutor(16) as threads:
        asking = [threads.submit(raw_response, proxy.port, ask * 2_999 + last) for _ in range(16)]
        assert sum(one.result().count(b"HTTP/1.1 ") for one in asking) == 48_000
        until(lambda: proxy.log.read_bytes().count(b"proxy.answered") == 48_000)


def test_each_path_of_the_api_is_named(app: Flask, proxy: HAProxy) -> None:
    """And each of its variables is ``*``. Guard: the words of ``txn.path`` in haproxy.cfg."""
    variable = re.compile("<[^>]+>")
    for rule in {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"}:
        target = variable.sub(MARK, rule)
        assert asked(proxy, target)["path"] == variable.sub("*", rule)


def hostile_requests() -> Iterator[bytes]:
    """Each text in each place, and random bytes."""
    for text in HOSTILE:
        yield f"GET /{text} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        yield f"GET {text} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        yield f"GET http://{text}/{text} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        yield f"{text} /token HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        yield f"GET / HTTP/1.1 {text}\r\nHost: x\r\n\r\n".encode()
        yield f"GET /metrics?{text} HTTP/1.1\r\nHost: x\r\n{text}: {text}\r\n\r\n".encode()
        for header in HEADERS:
            for path in ("/token/create", "/metrics"):
                yield f"POST {path} HTTP/1.1\r\n{header}: {text}\r\n\r\n".encode()
    chance = random.Random(14)  # noqa: S311 - the same each time
    for _ in range(trials(5_000)):
        noise = chance.randbytes(chance.randrange(1, 300)) + f'"{MARK}'.encode()
        yield b"GET /" + noise + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        yield b"GET /token HTTP/1.1\r\nX-Request-ID: " + noise + b"\r\n\r\n"


def test_no_request_breaks_a_line_or_gets_into_it(proxy: HAProxy) -> None:
    """Guards: the patterns of ``txn.method``, ``txn.path`` and ``txn.request_id`` in haproxy.cfg.

    In sessions of one request each, so every request has a line.
    """
    requests = [*hostile_requests()]
    before = len(proxy.lines())
    for request in requests:
        raw_response(proxy.port, request, ends=True)
    until(lambda: len(proxy.lines()) >= before + len(requests))
    lines = proxy.lines()[before:]
    for line in lines:
        check(line)
    written = proxy.log.read_text()
    leaks = written.count(MARK)
    record(
        "Whatever a request holds, its line in the log of the proxy is JSON and holds none of it",
        n=len(requests),
        failures=leaks,
    )
    assert not leaks
    assert {line["status"] for line in lines} >= {200, 400, 404}


def test_the_longest_line_is_whole(proxy: HAProxy) -> None:
    """HAProxy cuts lines at 1,024 bytes. Guards: the bounds of ``path`` and ``request_id``."""
    longest = "x" * 128
    ask = f"OPTIONS {'/a' * 1_900} HTTP/1.1\r\nHost: x\r\nX-Request-ID: {longest}\r\n"
    raw_response(proxy.port, f"{ask}Connection: close\r\n\r\n".encode())
    line = line_of(proxy, longest)
    assert line["path"] == "/*" * 64
    # An address of IPv6 and numbers of ten digits are longer.
    assert len(json.dumps(line)) + 39 + 10 * len(NUMBERS) < 1_024


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, ["127.1.2.3", "::1"]),
        ({"ADDRESSES": "whole"}, ["127.1.2.3", "::1"]),
        ({"ADDRESSES": "network"}, ["127.1.2.0", "::"]),
        ({"ADDRESSES": "none"}, ["-", "-"]),
    ],
)
def test_the_log_has_as_much_of_an_address_as_is_set(
    setting: dict[str, str], expected: list[str], seen: Witness, tmp_path: Path
) -> None:
    """Of requests that are read, and of those that are not."""
    port = free_port()
    proxy = HAProxy(tmp_path, [seen.port], BIND=f"127.0.0.1:{port},[::1]:{port}", **setting)
    proxy.port = port
    ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with proxy:
        for request in (ask, b"?\r\n\r\n"):
            before = len(proxy.lines())
            raw_response(port, request, "127.1.2.3", ends=True)
            raw_response(port, request, "::1", ends=True)
            until(lambda: len(proxy.lines()) == before + 2)  # noqa: B023 - at once
            assert [line["client_address"] for line in proxy.lines()[before:]] == expected
        given = proxy.log.read_text()
    assert "127.1.2.3" not in given or "127.1.2.3" in expected


def test_an_unknown_setting_of_addresses_is_refused(seen: Witness, tmp_path: Path) -> None:
    with (
        pytest.raises(dev.CannotStart, match="ADDRESSES is whole, network or none"),
        HAProxy(tmp_path, [seen.port], ADDRESSES="some"),
    ):
        pass
