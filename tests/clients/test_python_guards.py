"""The guards for FastAPI and Flask: the code of docs/clients.md, under real servers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from starlette.datastructures import Headers as StarletteHeaders
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from werkzeug.datastructures import Headers as WerkzeugHeaders

from tests.clients.serving import served
from tests.clients.worlds import PATIENT, keyed
from tests.docs.pages import blocks, read
from tests.stage.browsing import Visit, chromium
from tests.stage.programs import needs_program
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from token_service_client import FakeTokens, Tokens, Use, websocket_ticket
from token_service_client.flask import one_time
from token_service_client.tickets import Headers

ROUTE = """

@app.get("/app/<page>")
async def show(use: Annotated[Use, ticket], page: str) -> str:
    return f"{use.subject} reads {page}"


@app.get("/")
async def home() -> str:
    return "home"
"""
TICKET = "X-One-Time-Token"
NOBODY = str(uuid.UUID(int=0))
OPEN = """ticket => new Promise((resolve, reject) => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/rooms", ["ott", ticket]);
  socket.onmessage = event => resolve(event.data);
  socket.onclose = event => reject(new Error(`closed: ${event.code}`));
})"""


@dataclass
class Application:
    """A guarded application, the network between it and the service, and its backend."""

    port: int
    log: Path
    network: Proxy
    backend: Tokens
    gateway_id: str
    purpose: str

    def ticket(self, **terms: Any) -> str:
        given = {"purpose": self.purpose, "audience": self.gateway_id, "expires_in": 60, **terms}
        return self.backend.create(**given, subject="ana", data={"room": 7}).token

    def get(self, ticket: str = "", path: str = "/app/news") -> httpx.Response:
        headers = {TICKET: ticket} if ticket else {}
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=60)

    def open(self, *offered: str) -> Any:
        address = f"ws://127.0.0.1:{self.port}/rooms"
        return connect(address, subprotocols=[*offered] or None, proxy=None)  # type: ignore[list-item]


def guarded(framework: str) -> str:
    """The code of the page for a framework."""
    [text] = [block for block in blocks(read("docs/clients.md"), "python") if framework in block]
    if framework == "FastAPI()":
        text += ROUTE.replace("<page>", "{page}")
    return text


@pytest.fixture(scope="module", params=["FastAPI()", "Flask(__name__)"])
def application(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    (person, backend), (gateway, key) = keyed(service, 2)
    server, purpose = {
        "FastAPI()": ("uvicorn", "ws.connect"),
        "Flask(__name__)": ("gunicorn", "app.open"),
    }[request.param]
    with Proxy(service.port) as network, Tokens(service.url, backend, **PATIENT) as tokens:
        url = f"http://127.0.0.1:{network.port}"
        told = {"TOKEN_SERVICE": url, "GATEWAY_KEY": key, "BACKEND": person.id}
        folder = tmp_path_factory.mktemp("guarded")
        with served(guarded(request.param), folder, server, **told) as (port, log):
            yield Application(port, log, network, tokens, gateway.id, purpose)
        assert not any(secret in log.read_text() for secret in (key, "ott_", "Traceback"))


with_websocket = pytest.mark.parametrize(
    "application", ["FastAPI()"], indirect=True, scope="module"
)


def refused(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.headers["X-Token-Code"]) == (status, code)
    assert response.headers["Cache-Control"] == "no-store"
    assert "reads" not in response.text


def test_a_ticket_admits_once(application: Application) -> None:
    ticket = application.ticket()
    admitted = application.get(ticket)
    assert (admitted.status_code, admitted.text.strip('"')) == (200, "ana reads news")
    refused(application.get(ticket), 403, "token_already_used")


def test_without_a_ticket_nobody_is_admitted(application: Application) -> None:
    refused(application.get(), 401, "ticket_missing")


def test_a_refused_ticket_is_a_403(application: Application) -> None:
    refused(application.get(application.ticket(purpose="other")), 403, "token_mismatch")
    refused(application.get(application.ticket(audience=NOBODY)), 403, "token_not_for_caller")
    for text in ("ott_0", "x" * 3000, '"', f"{application.ticket()}, ott_0"):
        refused(application.get(text), 403, "token_malformed")


def test_a_service_that_is_down_is_a_503_and_costs_no_ticket(application: Application) -> None:
    ticket = application.ticket()
    application.network.refuse()
    response = application.get(ticket)
    application.network.mend()
    refused(response, 503, "unreachable")
    assert int(response.headers["Retry-After"]) >= 1
    assert application.get(ticket).status_code == 200


@with_websocket
def test_a_websocket_opens_once(application: Application) -> None:
    ticket = application.ticket()
    with application.open("ott", ticket) as websocket:
        assert websocket.subprotocol == "ott"
        assert json.loads(websocket.recv()) == {"user": "ana", "room": {"room": 7}}
    for offered, status, code in (
        (["ott", ticket], 403, "token_already_used"),
        (["ott", "ott_0"], 403, "token_malformed"),
        (["chat"], 401, "ticket_missing"),
        (["ott"], 401, "ticket_missing"),
        ([], 401, "ticket_missing"),
    ):
        with pytest.raises(InvalidStatus) as raised:
            application.open(*offered)
        found = raised.value.response
        assert (found.status_code, found.headers["X-Token-Code"]) == (status, code)


@with_websocket
def test_a_websocket_waits_for_the_service(application: Application) -> None:
    ticket = application.ticket()
    application.network.refuse()
    with pytest.raises(InvalidStatus) as raised:
        application.open("ott", ticket)
    application.network.mend()
    assert raised.value.response.status_code == 503
    with application.open("ott", ticket) as websocket:
        assert json.loads(websocket.recv())["user"] == "ana"


@pytest.mark.slow
@needs_program("chromium")
@with_websocket
def test_a_page_opens_a_websocket(application: Application) -> None:
    """Chromium closes a WebSocket whose server selects none of the protocols that it offered."""
    with chromium() as browser:
        page = Visit(browser, application.port, "en").page
        page.goto("/")
        told = page.evaluate(OPEN, application.ticket())
    assert json.loads(told) == {"user": "ana", "room": {"room": 7}}


def flask_with(tokens: FakeTokens) -> FlaskClient:
    app = Flask("guarded")
    app.extensions["tokens"] = tokens

    @app.get("/")
    @one_time("app.open", issued_by="me@example.com")
    def page(use: Use) -> str:
        return use.subject

    return app.test_client()


def test_a_test_of_an_application_needs_no_service() -> None:
    with FakeTokens() as tokens:
        ticket = tokens.create(purpose="app.open", subject="ana").token
        client = flask_with(tokens)
        assert client.get("/", headers={TICKET: ticket}).text == "ana"
        assert client.get("/", headers={TICKET: ticket}).status_code == 403


def test_the_owner_of_an_application_learns_of_a_wrong_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeTokens() as tokens:
        ticket = tokens.create(purpose="app.open", subject="ana").token
        tokens.service.fail("key_invalid", retry_after=0)
        response = flask_with(tokens).get("/", headers={TICKET: ticket})
    assert (response.status_code, response.headers["X-Token-Code"]) == (503, "key_invalid")
    assert response.headers["Retry-After"] == "1"
    assert "key_invalid" in caplog.text
    assert ticket not in caplog.text


@pytest.mark.parametrize(
    ("offered", "ticket"),
    [
        ("ott, ott_0", "ott_0"),
        ("chat, ott,ott_0", "ott_0"),
        ("ott, ott_0, chat", "ott_0"),
        ("ott", None),
        ("ott_0", None),
        ("chat", None),
        ("", None),
    ],
)
def test_the_ticket_of_a_handshake_is_found_in_any_headers(
    offered: str, ticket: str | None
) -> None:
    name = "Sec-WebSocket-Protocol"
    message = Message()
    message[name] = offered
    several = [(name, word) for word in offered.split(",")]
    kinds: list[Headers] = [{name.lower(): offered}, {name: offered}, WerkzeugHeaders(several)]
    for headers in (*kinds, StarletteHeaders({name: offered}), message):
        assert websocket_ticket(headers) == ticket
    assert websocket_ticket({}) is None
