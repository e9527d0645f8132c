"""The TypeScript client: its contract in Node and in a browser, its page, and its adapters."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev.server import free_port
from tests.clients.typescript.project import PACKAGE, blocks, built, called, losing, written
from tests.docs.pages import shape
from tests.stage import node
from tests.stage.browsing import Visit, chromium
from tests.stage.keys import new_key
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.programs import program
from tests.stage.proxy import CUT, DELAY, KINDS, SWALLOW, Proxy
from tests.stage.service import Service
from tests.stage.tokens import altered

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
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("typescript"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages(project: Path) -> Iterator[str]:
    """The origin of a site with the files of the project."""
    handler = functools.partial(Quiet, directory=project)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()
        thread.join()


@dataclasses.dataclass
class Stage:
    """A service that pages of one origin may call, and two accounts of it with a key each."""

    service: Service
    backend: Person
    gateway: Person
    keys: dict[str, str]

    def place(self, port: int, marks: list[str] | None = None) -> dict[str, Any]:
        """What the programs are told of the service, which they reach through a port."""
        with httpx.Client(base_url=self.service.url) as http:
            created = http.post("/token/create", headers=self.backend.headers).json()["token"]
        return {
            "url": f"http://127.0.0.1:{port}",
            "nowhere": f"http://127.0.0.1:{free_port()}",
            "keys": self.keys,
            "issuer": self.backend.correo,
            "audience": self.gateway.correo,
            "unknown": altered(created, secret="0" * 28),
            "lost": altered(created, secret="0" * 28, epoch="0000"),
            "marks": marks or [],
            "tellsRefusals": True,
        }


@pytest.fixture(scope="module")
def stage(serve: Callable[..., Service], pages: str) -> Iterator[Stage]:
    with (
        serve(cors_origins=pages, web_concurrency=2) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        backend, gateway = enrol(http.post), enrol(http.post)
        limits = {"create": "1 per hour"}
        keys = {
            "backend": new_key(http.post, backend),
            "gateway": new_key(http.post, gateway),
            "limited": new_key(http.post, gateway, limits=limits),
        }
        yield Stage(service, backend, gateway, {name: key["key"] for name, key in keys.items()})


def test_its_types_are_those_of_the_document(project: Path, stage: Stage) -> None:
    """A schema that changes without ``npm run wire`` turns this red."""
    document = httpx.get(f"{stage.service.url}/openapi.json").text
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
    assert sum(proxy.lost.values()) > 80


def test_its_contract_in_a_browser(project: Path, stage: Stage, pages: str) -> None:
    """Chromium does not tell a connection that was refused from a reply that was lost."""
    place = {**stage.place(stage.service.port), "tellsRefusals": False}
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{pages}/page.html")
        passes(
            page.evaluate("(place) => import('/worlds.js').then((m) => m.ofService(place))", place)
        )


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


@pytest.fixture
def environment(stage: Stage) -> dict[str, str]:
    """What the lines of the page read."""
    return {
        "TOKEN_SERVICE": stage.service.url,
        "BACKEND_KEY": stage.keys["backend"],
        "GATEWAY_KEY": stage.keys["gateway"],
        "BACKEND": stage.backend.correo,
    }


def test_the_lines_of_its_page_run(project: Path, environment: dict[str, str]) -> None:
    """Those of the adapters run in the test below."""
    alone = [name for name in written(project, "README.md") if is_alone(project / name)]
    told = [node.ran(project, "node", name, **environment) for name in alone]
    assert [text.partition(" ")[2].partition(" ")[0] for text in told] == ["7\nused", "bytes", ""]


def is_alone(module: Path) -> bool:
    return not re.search("app|server", module.read_text())


def test_adapters_fit_the_types_of_the_frameworks(project: Path) -> None:
    node.ran(project, "../node_modules/.bin/tsc", "--project", "tsconfig.adapters.json")
