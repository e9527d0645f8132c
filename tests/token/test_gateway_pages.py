"""A real browser behind nginx with its recipe: what a page does with a ticket, and with a pass."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.stage.browsing import HOST, Visit, chromium
from tests.stage.gateways import Backend, Door, Nginx, serving
from tests.stage.programs import program
from tests.stage.service import Service

pytestmark = pytest.mark.slow

FILE = bytes(range(256)) * 1200
IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>'
PAGE = "".join(f'<img src="/image/{number}">' for number in range(10)).encode()

IN_A_WEBSOCKET = """([url, ticket]) => new Promise((resolve) => {
  const socket = new WebSocket(url, ["ott", ticket]);
  socket.onclose = () => resolve("closed");
  socket.onmessage = (event) => resolve(`${socket.protocol}: ${event.data}`);
})"""
# Two messages: after the first one the server ends the stream, and the browser opens it again.
IN_AN_EVENT_SOURCE = """(url) => new Promise((resolve) => {
  const source = new EventSource(url), heard = [];
  source.onmessage = (event) => {
    heard.push(event.data);
    if (heard.length == 2) { source.close(); resolve(heard); }
  };
  source.onerror = () => { if (source.readyState == EventSource.CLOSED) resolve(heard); };
})"""
IN_PARTS = """async ([url, ticket, size, part]) => {
  const statuses = [], parts = [];
  for (let at = 0; at < size; at += part) {
    const headers = { Range: `bytes=${at}-${at + part - 1}` };
    if (at == 0) headers["X-One-Time-Token"] = ticket;
    const response = await fetch(url, { headers });
    statuses.push(response.status);
    parts.push(await response.arrayBuffer());
  }
  const blob = new Blob(parts);
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return [statuses, Array.from(new Uint8Array(digest))];
}"""


class Application(BaseHTTPRequestHandler):
    """What stands behind nginx: a page with images, a file, a stream of events and a WebSocket."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]]
    streams = 0

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path != "/favicon.ico":  # A browser asks for it by itself.
            self.seen.append((path, self.headers["X-Token-Id"]))
        if path == "/chat":
            self.greet()
        elif path == "/events":
            self.stream()
        elif path == "/file":
            self.send_part()
        else:
            self.send(200, *(("image/svg+xml", IMAGE) if "image" in path else ("text/html", PAGE)))

    def send(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def send_part(self) -> None:
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not last:
            disposition = "attachment; filename=file.bin"
            return self.send(200, "application/octet-stream", FILE, Content_Disposition=disposition)
        span = f"bytes {first}-{last}/{len(FILE)}"
        part = FILE[int(first) : int(last) + 1]
        return self.send(206, "application/octet-stream", part, Content_Range=span)

    def stream(self) -> None:
        """The first time, one event and the end; later, one that stays open."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"retry: 10\ndata: %d\n\n" % self.streams)
        Application.streams += 1
        if self.streams > 1:
            self.rfile.read()  # until the browser closes

    def greet(self) -> None:
        text = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()  # noqa: S324
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
        self.end_headers()
        self.wfile.write(b"\x81\x05hello")
        self.close_connection = True
        self.rfile.read()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def door(serve: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """nginx with TLS, because browsers keep the cookie of a pass over https alone."""
    folder = tmp_path_factory.mktemp("nginx")
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", f"{folder}/certificate.key", "-out", f"{folder}/certificate.pem"]
    command = [program("openssl"), "req", *made, *files, "-subj", f"/CN={HOST}"]
    subprocess.run(command, check=True, capture_output=True)
    tls = (
        ("listen 8080;\n  # listen 8443 ssl;", "listen 8080 ssl;"),
        ("# ssl_certificate", "ssl_certificate"),
    )
    Application.seen = []
    with serving(Application) as port, serve(web_concurrency=1) as service:
        backend = Backend(service)
        correo = backend.issuer.correo
        with Nginx(folder, service.port, port, backend.key, correo, tls) as proxy:
            yield Door(service, proxy, backend.issuer)
    assert "ott_" not in proxy.logs()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, door: Door) -> Visit:
    """A visitor without a ticket, whose page is the refusal."""
    Application.seen.clear()
    visit = Visit(browser, door.proxy.port, "en-US", scheme="https")
    refused = visit.page.goto("/")
    assert refused
    assert refused.status == 401
    return visit


def test_a_websocket_opens_once(door: Door, visit: Visit) -> None:
    url, ticket = f"{visit.origin.replace('https', 'wss')}/chat", door.ticket()
    assert visit.page.evaluate(IN_A_WEBSOCKET, [url, ticket]) == "ott: hello"
    visit.page.context.clear_cookies()
    assert visit.page.evaluate(IN_A_WEBSOCKET, [url, ticket]) == "closed"
    assert [path for path, _ in Application.seen] == ["/chat"]


def test_an_event_source_opens_again_with_its_pass(door: Door, visit: Visit) -> None:
    ticket = door.ticket()
    url, Application.streams = f"/events?ticket={ticket}", 0
    assert visit.page.evaluate(IN_AN_EVENT_SOURCE, url) == ["0", "1"]
    visit.page.context.clear_cookies()
    assert visit.page.evaluate(IN_AN_EVENT_SOURCE, url) == []
    assert [path for path, _ in Application.seen] == ["/events", "/events"]


def test_a_file_comes_whole_and_in_parts(door: Door, visit: Visit) -> None:
    parts = ["/file", door.ticket(), len(FILE), len(FILE) // 10]
    statuses, digest = visit.page.evaluate(IN_PARTS, parts)
    assert (statuses, bytes(digest)) == ([206] * 10, hashlib.sha256(FILE).digest())
    assert len(set(Application.seen)) == 1
    ticket = door.ticket()
    with visit.page.expect_download() as started:
        visit.page.evaluate("(url) => { location = url; }", f"/file?ticket={ticket}")
    assert started.value.path().read_bytes() == FILE


def test_a_page_has_its_images(door: Door, visit: Visit) -> None:
    visit.page.goto(f"/page?ticket={door.ticket()}")
    for image in visit.page.locator("img").all():
        expect(image).to_have_js_property("naturalWidth", 7)
    paths = sorted(path for path, _ in Application.seen)
    assert paths == [*(f"/image/{number}" for number in range(10)), "/page"]
    assert len({token_id for _, token_id in Application.seen}) == 1
