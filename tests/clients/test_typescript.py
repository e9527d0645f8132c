"""The TypeScript client: its contract in Node and in a browser, its page, and its adapters."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

from tests.clients.typescript.project import PACKAGE, blocks, built, called, written
from tests.clients.typescript.stage import Stage, losing, staged
from tests.docs.pages import shape
from tests.stage import node
from tests.stage.browsing import chromium
from tests.stage.people import PASSWORD
from tests.stage.programs import program
from tests.stage.proxy import Proxy
from tests.stage.service import Service

pytestmark = pytest.mark.slow


def answer(status: int, code: str, **headers: object) -> bytes:
    """A response with a problem, or without one where there is no code."""
    body = json.dumps(
        {"status": status, "code": code, "title": code, "detail": code} if code else 0
    )
    fields = {"Content-Length": len(body), **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", body]).encode()


#: What the proxy answers in place of the service.
ANSWERS = {
    "busy": answer(503, "busy"),
    "store": answer(503, "store_unavailable"),
    "database": answer(503, "database_unavailable"),
    "bad-gateway": answer(502, ""),
    "late-gateway": answer(504, "internal_error"),
    "limited": answer(429, "rate_limited"),
    "later": answer(429, "rate_limited", **{"Retry-After": 1}),
    "much-later": answer(429, "rate_limited", **{"Retry-After": 60}),
    "broken": answer(500, "internal_error"),
    "foreign": answer(200, ""),
    "moved": answer(302, "", Location="/token/create"),
    "stale": answer(401, "access_token_expired"),
    "silence": b"",
}
#: Actions, and the SHA-256 of their canonical JSON: that of docs/tickets.md and two of RFC 8785.
ACTIONS = [
    (json.loads(text), hashlib.sha256(canonical.encode()).hexdigest())
    for text, canonical in [
        (
            '{"payment":"7f3a","payee":"Muñoz e Hijos","currency":"EUR","amount_cents":25000}',
            '{"amount_cents":25000,"currency":"EUR","payee":"Muñoz e Hijos","payment":"7f3a"}',
        ),
        (
            r"""{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
            "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}""",
            r"""{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"""
            r""""string":"€$\u000f\nA'B\"\\\\\"/"}""",
        ),
        (
            r'{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}',
            r'{"\r":2,"1":4,' + '"\u0080":6,"ö":7,"€":1,"😀":5,"\ufb33":3}',
        ),
    ]
]


@pytest.fixture(scope="module")
def project() -> Path:
    return built()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages(project: Path) -> Iterator[str]:
    """The origin of a site with the files of the project."""
    handler = functools.partial(Quiet, directory=project)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever, args=[0.05])
        thread.start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()
        thread.join()


#: Opens a WebSocket with a ticket: its protocol and its first message, or null where it fails.
OPEN_SOCKET = """([url, token]) => new Promise((done) => {
  const socket = new WebSocket(url, ["ott", token]);
  socket.onmessage = ({data}) => done([socket.protocol, data]);
  socket.onerror = () => done(null);
})"""


@pytest.fixture(scope="module")
def stage(serve: Callable[..., Service], pages: str) -> Iterator[Stage]:
    """A service that the pages of that origin may call."""
    with serve(cors_origins=pages, web_concurrency=2) as service:
        yield staged(service)


@pytest.fixture(scope="module")
def page(pages: str) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{pages}/page.html")
        yield page


def test_its_types_are_those_of_the_document(project: Path, stage: Stage) -> None:
    """A schema that changes without ``npm run wire`` turns this red."""
    document = httpx.get(f"{stage.service.url}/openapi.json", timeout=30).text
    made = node.ran(project.parent, "node", "generate.mjs", told=document)
    assert made == (PACKAGE / "src" / "wire.ts").read_text(encoding="utf-8")


def test_its_contract_with_the_service(project: Path, stage: Stage) -> None:
    passes(called(project, "worlds", "ofService", stage.place(stage.service.port)))


def test_its_contract_with_the_fake(project: Path) -> None:
    passes(called(project, "worlds", "ofFake"))


def test_its_contract_while_replies_are_lost(project: Path, stage: Stage) -> None:
    """The first reply to each call is lost. Guard: the one idempotency key of all tries."""
    with losing(stage.service.port, 200) as (proxy, marks):
        passes(called(project, "worlds", "ofService", stage.place(proxy.port, marks)))
    assert proxy.lost.total() > 40


def test_its_contract_in_a_browser(page: Page, stage: Stage) -> None:
    """Chromium does not tell a connection that was refused from a reply that was lost."""
    place = {**stage.place(stage.service.port), "tellsRefusals": False}
    passes(page.evaluate("(place) => import('/worlds.js').then((m) => m.ofService(place))", place))


def passes(found: dict[str, str]) -> None:
    assert len(found) > 10
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_what_it_repeats(project: Path, stage: Stage) -> None:
    with Proxy(stage.service.port) as proxy:
        for name, reply in ANSWERS.items():
            proxy.answer(f": answer {name}\r".encode(), reply)
        person = {"email": stage.backend.correo, "password": PASSWORD, "actions": ACTIONS}
        passes(called(project, "repeats", "outcomes", {**stage.place(proxy.port), **person}))


def test_the_pages_have_the_same_lines_in_both_languages() -> None:
    english, spanish = ((PACKAGE / page).read_text() for page in ("README.md", "README.es.md"))
    assert shape(english) == shape(spanish)
    assert blocks("README.md") == blocks("README.es.md")


def test_the_lines_of_its_page_run(project: Path, stage: Stage) -> None:
    """Those of the adapters run in the test below."""
    alone = [name for name in written(project, "README.md") if is_alone(project / name)]
    environment = stage.environment(stage.service.port)
    told = [node.ran(project, "node", name, **environment) for name in alone]
    assert [text.partition(" ")[2].partition(" ")[0] for text in told] == ["7\nused", "bytes", ""]


def is_alone(module: Path) -> bool:
    return not re.search("app|server", module.read_text())


def test_adapters_fit_the_types_of_the_frameworks(project: Path) -> None:
    node.ran(project, "../node_modules/.bin/tsc", "--project", "tsconfig.adapters.json")


@pytest.fixture(scope="module")
def down(stage: Stage) -> Iterator[Proxy]:
    """A proxy before the service, for a test to refuse connections."""
    with Proxy(stage.service.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def apps(project: Path, stage: Stage, down: Proxy) -> Iterator[dict[str, int]]:
    """The ports of the apps of the page, each guarded by its lines there."""
    guards = [name for name in written(project, "README.md") if not is_alone(project / name)]
    environment = stage.environment(down.port) | {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [program("node"), "serve.mjs", *guards],
        cwd=project,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdin
        assert running.stdout
        yield json.loads(running.stdout.readline())
        running.stdin.close()


@pytest.mark.parametrize("framework", ["express", "hono"])
def test_a_route_is_guarded(
    framework: str, apps: dict[str, int], stage: Stage, down: Proxy
) -> None:
    url = f"http://127.0.0.1:{apps[framework]}/report"
    token = stage.created(purpose="app.open", subject="Ana ñ")
    ticket = {"X-One-Time-Token": token}
    down.refuse()
    response = httpx.get(url, headers=ticket, timeout=30)
    assert response.status_code == 503
    assert response.headers["X-Token-Code"] == "no_response"
    assert response.headers["Retry-After"] == "1"
    down.mend()
    assert httpx.get(url, headers=ticket, timeout=30).text == "Hello, Ana ñ"

    for status, code, headers in [
        (401, "ticket_missing", {}),
        (403, "token_already_used", ticket),
        (403, "token_mismatch", {"X-One-Time-Token": stage.created(purpose="other")}),
        (403, "token_malformed", {"X-One-Time-Token": "x"}),
        # As JSON it would be more than the service reads.
        (403, "token_malformed", {"X-One-Time-Token": '"' * 9000}),
    ]:
        response = httpx.get(url, headers=headers, timeout=30)
        assert (response.status_code, response.headers["X-Token-Code"]) == (status, code)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.json() == {"status": status, "code": code}


def test_a_websocket_is_guarded(apps: dict[str, int], stage: Stage, page: Page) -> None:
    """In Chromium, which closes a connection where the server selects no protocol."""
    address = f"127.0.0.1:{apps['express']}/rooms"
    token = stage.created(purpose="ws.connect", subject="Ana")
    opened = [page.evaluate(OPEN_SOCKET, [f"ws://{address}", token]) for _ in range(2)]
    assert opened == [["ott", "Hello, Ana"], None]

    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = base64.b64encode(secrets.token_bytes(16)).decode()
    for status, code, protocols in [
        (401, "ticket_missing", "chat"),
        (403, "token_already_used", f"ott, {token}"),
    ]:
        headers = {**handshake, "Sec-WebSocket-Protocol": protocols}
        response = httpx.get(f"http://{address}", headers=headers, timeout=30)
        assert (response.status_code, response.headers["X-Token-Code"]) == (status, code)


def test_the_guard_of_a_websocket_has_at_most_ten_lines() -> None:
    [guard] = [block for block in blocks("README.md") if "WebSocketServer" in block]
    assert len([line for line in guard.splitlines() if line]) <= 10
