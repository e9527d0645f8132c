"""CORS at the shipped proxy: a page of a listed origin can read its errors, and no other page."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from dev.server import free_port
from tests.stage.browsing import HOST, chromium
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.haproxy import HAProxy, changed, needs_haproxy, problem, raw_response
from tests.torture.witness import Witness, witness
from tokenservice.web.headers import EXPOSED_HEADERS

pytestmark = needs_haproxy

ORIGINS = ["https://app.example.com", "http://[::1]:3000", "capacitor://localhost", "https://a.b"]
LISTS = [", ".join(ORIGINS), ",".join(ORIGINS), " " + " , ".join(reversed(ORIGINS)) + ","]
STRANGERS = [
    "https://evil.example",
    "https://app.example.com.evil.example",
    "https://app.example.co",
    "https://appXexample.com",
    "https://app.example.com:443",
    "http://app.example.com",
    "https://a.b.c",
    "tps://a.b",
    "https://a.b,",
    ",",
    "https://a.b https://evil.example",
    "https://evil.example https://a.b",
    "https://evil.example,https://a.b",
    "http://::3000",
    "capacitor://localhos.",
    ".*",
    "*",
    "null",
    "(?<origin>)",
    'https://a.b"',
    "https://a.b\xff",
    " ",
]
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}
#: Requests that the proxy refuses, with the status.
REFUSED = [
    ("GET", "/metrics", b"", 404),
    ("GET", "/" + "a" * 5000, b"", 400),
    ("POST", "/auth/login", b"a" * 16_385, 413),
    ("GET", "/hangs-up", b"", 502),
    ("GET", "/takes/4", b"", 504),
    ("POST", "/auth/login", None, 408),
]


@pytest.fixture(scope="module")
def seen() -> Iterator[Witness]:
    with witness() as server:
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configuration, with short patience."""
    return changed(
        tmp_path_factory.mktemp("hasty") / "changed.cfg",
        ("timeout server 10s", "timeout server 1s"),
        ("timeout http-request 5s", "timeout http-request 500ms"),
    )


@pytest.fixture(scope="module")
def proxy(
    seen: Witness, hasty: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HAProxy]:
    directory = tmp_path_factory.mktemp("proxy")
    with HAProxy(directory, [seen.port], hasty, CORS_ORIGINS=LISTS[0]) as running:
        yield running


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    """A proxy without any service behind it."""
    directory = tmp_path_factory.mktemp("away")
    with HAProxy(directory, [free_port()], CORS_ORIGINS=LISTS[0]) as running:
        yield running


def ask(
    proxy: HAProxy,
    method: str,
    path: str,
    origin: str | None,
    body: bytes | None = b"",
    **more: str,
) -> tuple[bytes, dict[str, list[str]]]:
    """The whole response to one request, and its headers. None is a body that never arrives."""
    size = 9 if body is None else len(body)
    lines = {"Host": "service", "Connection": "close", "Content-Length": str(size), **more}
    if origin is not None:
        lines["Origin"] = origin
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    response = raw_response(proxy.port, head.encode("latin-1") + b"\r\n" + (body or b""))
    headers: dict[str, list[str]] = {}
    for line in response.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return response, headers


def allowed(headers: dict[str, list[str]]) -> list[str]:
    return headers.get("access-control-allow-origin", [])


@pytest.mark.parametrize(("method", "path", "body", "status"), REFUSED)
@pytest.mark.parametrize("origin", [ORIGINS[0], None, STRANGERS[0]])
def test_a_page_may_read_each_error_of_the_proxy(
    origin: str | None, method: str, path: str, body: bytes | None, status: int, proxy: HAProxy
) -> None:
    """Guard: the three ``http-after-response`` of haproxy.cfg."""
    response, headers = ask(proxy, method, path, origin, body)
    assert problem(response)[0] == status
    assert allowed(headers) == ([origin] if origin == ORIGINS[0] else [])
    if origin == ORIGINS[0]:
        [exposed] = headers["access-control-expose-headers"]
        assert sorted(exposed.split(", ")) == sorted(EXPOSED_HEADERS)
        assert headers["vary"] == ["Accept-Language", "Origin"]


@pytest.mark.parametrize("path", ["/token/create", "/docs"], ids=["short", "long"])
def test_a_page_may_read_that_the_service_is_away(path: str, away: HAProxy) -> None:
    """At once, and after the health checks have noticed it."""
    codes = set()

    def away_for_good() -> bool:
        response, headers = ask(away, "GET", path, ORIGINS[0])
        assert allowed(headers) == [ORIGINS[0]]
        assert headers["retry-after"] == ["1"]
        codes.add(problem(response))
        return (503, "not_ready") in codes

    until(away_for_good)
    assert codes <= {(503, "busy"), (503, "not_ready")}


@pytest.mark.parametrize("path", ["/token/create", "/docs", "/metrics", "/" + "a" * 5000])
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_preflight_succeeds_whatever_becomes_of_the_call(
    origin: str, path: str, away: HAProxy
) -> None:
    """A refused preflight would be a network error, and hide the reason."""
    response, headers = ask(away, "OPTIONS", path, origin, **PREFLIGHT)
    assert response.startswith(b"HTTP/1.1 204 ")
    assert allowed(headers) == [origin]
    [methods] = headers["access-control-allow-methods"]
    assert {"DELETE", "GET", "POST"} <= set(methods.split(", "))
    assert headers["access-control-allow-headers"] == [PREFLIGHT["Access-Control-Request-Headers"]]
    assert headers["access-control-max-age"] == ["600"]
    assert headers["vary"] == ["Origin"]


@pytest.mark.parametrize("names", ["x\xff", "a: b", "a;b", '"', "x" * 1025])
def test_a_preflight_repeats_names_of_headers_alone(names: str, away: HAProxy) -> None:
    more = {**PREFLIGHT, "Access-Control-Request-Headers": names}
    response, headers = ask(away, "OPTIONS", "/", ORIGINS[0], **more)
    assert response.startswith(b"HTTP/1.1 204 ")
    assert "access-control-allow-headers" not in headers


@pytest.mark.parametrize("listed", [*LISTS, LISTS[0].upper()])
def test_only_the_listed_origins_may_read(listed: str, seen: Witness, tmp_path: Path) -> None:
    """Guard: the pattern in haproxy.cfg, which compares whole words alone."""
    with HAProxy(tmp_path, [seen.port], CORS_ORIGINS=listed) as proxy:
        for origin in ORIGINS:
            assert allowed(ask(proxy, "GET", "/metrics", origin)[1]) == [origin]
        for origin in STRANGERS:
            response, headers = ask(proxy, "GET", "/metrics", origin)
            assert problem(response) == (404, "not_found")
            assert allowed(headers) == [], origin
            # The service decides about preflights of others.
            response, _ = ask(proxy, "OPTIONS", "/", origin, **PREFLIGHT)
            assert response.startswith(b"HTTP/1.1 501 "), origin
        both = {"X-First": "x\r\nOrigin: https://a.b"}
        assert allowed(ask(proxy, "GET", "/metrics", "https://evil.example", **both)[1]) == []


@pytest.mark.parametrize("listed", ["", " ", ",", None])
def test_without_a_list_no_origin_may_read(
    listed: str | None, seen: Witness, tmp_path: Path
) -> None:
    more = {} if listed is None else {"CORS_ORIGINS": listed}
    with HAProxy(tmp_path, [seen.port], **more) as proxy:
        for origin in (*ORIGINS, *STRANGERS, "", " ,"):
            assert allowed(ask(proxy, "GET", "/metrics", origin)[1]) == []


@pytest.fixture(scope="module")
def real(
    serve: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HAProxy]:
    """The proxy before a service that lists one origin less."""
    directory = tmp_path_factory.mktemp("real")
    with (
        serve(web_concurrency=1, trusted_proxies=1, cors_origins=LISTS[0][:-13]) as service,
        HAProxy(directory, [service.port], CORS_ORIGINS=LISTS[0]) as running,
    ):
        yield running


@pytest.mark.parametrize("path", ["/auth/me", "/nowhere", "/docs/assets/swagger-ui.css"])
def test_responses_of_the_service_have_its_own_headers(path: str, real: HAProxy) -> None:
    """Once, and only where the service allows it."""
    for origin in ORIGINS:
        _, headers = ask(real, "GET", path, origin)
        assert allowed(headers) == ([] if origin == ORIGINS[-1] else [origin])
        assert len(headers.get("access-control-expose-headers", [])) <= 1
        assert "Origin" in ", ".join(headers["vary"])


def test_proxy_and_service_give_a_preflight_the_same_headers(real: HAProxy) -> None:
    def permissions(url: str) -> dict[str, Any]:
        headers = httpx.options(
            f"{url}/token/create", headers={"Origin": ORIGINS[0], **PREFLIGHT}
        ).headers
        return {
            name: {word.strip() for word in value.split(",")}
            for name, value in headers.items()
            if name.startswith("access-control")
        }

    service = real.options()["env"]["SERVER_ONE"]
    assert permissions(real.url) == permissions(f"http://{service}")


CALL = """
async ([url, body]) => {
  try {
    const response = await fetch(url, {
      method: "POST", body,
      headers: {"Content-Type": "application/json", "Authorization": "Bearer x"},
    });
    const {code} = await response.json();
    return [response.status, code, response.headers.get("Retry-After")];
  } catch (error) {
    return error.name;
  }
}
"""


class Blank(http.server.BaseHTTPRequestHandler):
    """An empty page at any path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write no log."""


@pytest.fixture
def port_of_pages() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_real_page_reads_why_its_call_failed(
    port_of_pages: int, serve: Callable[..., Service], tmp_path: Path
) -> None:
    """The service is up, then down; a page of another origin learns nothing."""
    listed, unlisted = (f"http://{host}:{port_of_pages}" for host in ("127.0.0.1", HOST))

    def call(page: Page, path: str, body: str = "{}") -> Any:
        return page.evaluate(CALL, [f"{proxy.url}{path}", body])

    with (
        chromium() as browser,
        serve(web_concurrency=1, cors_origins=listed) as service,
        HAProxy(tmp_path, [service.port], CORS_ORIGINS=listed) as proxy,
    ):
        page, other = browser.new_page(), browser.new_page()
        page.goto(listed)
        other.goto(unlisted)
        assert call(page, "/token/create") == [401, "access_token_invalid", None]
        assert call(page, "/nowhere") == [404, "not_found", None]
        assert call(page, "/metrics") == [404, "not_found", None]
        assert call(page, "/auth/login", "x" * 17_000) == [413, "payload_too_large", None]
        assert call(other, "/token/create") == "TypeError"
        service.__exit__()
        for path in ("/token/create", "/auth/login", "/token/batch"):
            until(lambda path=path: call(page, path) == [503, "not_ready", "1"])  # type: ignore[misc]
            assert call(other, path) == "TypeError"
