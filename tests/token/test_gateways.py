"""The recipes of deploy/gateways, with the real proxies, before the gate of a real service."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from dev.server import free_port
from tests.stage.gateways import (
    GATEWAYS,
    RECIPES,
    Apache,
    Backend,
    Caddy,
    Door,
    Envoy,
    Gateway,
    Nginx,
    Traefik,
    serving,
)
from tests.stage.keys import bearer
from tests.stage.people import Person, enrol
from tests.stage.proxy import CUT, Proxy
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.onetime.format import Token
from tokenservice.token.gate import ROOM

pytestmark = pytest.mark.slow


class Application(BaseHTTPRequestHandler):
    """What stands behind the proxy: it keeps the headers of each request."""

    seen: list[dict[str, str]]
    #: Its status, where a proxy takes it for the service, and asks it as a gate.
    as_gate = 204
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        if self.path.startswith("/token/gate?"):
            self.send_response(self.as_gate)
            self.send_header("X-Token-Id", "of the gate")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/hangs-up"):
            self.close_connection = True
            return
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.rfile.read()  # until the client closes
            return
        if "Upgrade" in self.headers:
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
            self.end_headers()
            self.close_connection = True
            return
        self.send_response({"/broken": 500, "/absent": 404}.get(self.path, 200))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def application() -> Iterator[int]:
    Application.seen = []
    with serving(Application) as port:
        yield port


@pytest.fixture(scope="module")
def backend(serve: Callable[..., Service]) -> Iterator[Backend]:
    with serve(web_concurrency=2) as service:
        yield Backend(service)


@pytest.fixture(scope="module")
def lossy(backend: Backend) -> Iterator[Proxy]:
    """What stands between the proxy and the service, and can lose a response."""
    with Proxy(backend.service.port) as proxy:
        yield proxy


@pytest.fixture(scope="module", params=GATEWAYS)
def gateway(request: pytest.FixtureRequest) -> type[Gateway]:
    kind: type[Gateway] = request.param
    return kind


@pytest.fixture(scope="module")
def opened(
    gateway: type[Gateway],
    backend: Backend,
    lossy: Proxy,
    application: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp(gateway.name)
    issuer = backend.issuer
    with gateway(folder, lossy.port, application, backend.key, issuer.correo) as proxy:
        yield Door(backend.service, proxy, issuer)


@pytest.fixture
def door(opened: Door) -> Door:
    Application.seen.clear()
    return opened


def test_a_request_passes_with_a_ticket_and_once(door: Door) -> None:
    assert door.get().status_code == 401
    ticket = door.ticket(subject="María", data={"room": 7})
    response = door.get(X_One_Time_Token=ticket)
    assert (response.status_code, response.text) == (200, "ok")
    [seen] = Application.seen
    assert seen["x-token-subject"] == "Mar%C3%ADa"
    assert json.loads(base64.urlsafe_b64decode(seen["x-token-data"])) == {"room": 7}
    assert len(seen["x-token-id"]) == 18
    assert "x-one-time-token" not in seen
    assert "authorization" not in seen
    assert door.get(X_One_Time_Token=ticket).status_code == 403
    assert door.get(X_One_Time_Token=door.ticket(), Host="x").text == "ok"
    assert door.proxy.key not in str(response.headers) + str(Application.seen) + door.proxy.logs()


def test_what_a_client_sends_in_place_of_the_proxy_gains_nothing(door: Door) -> None:
    """One passes, whatever it says of keys, ids and addresses."""
    ticket = door.ticket()
    forged = {
        "Idempotency-Key": "mine",
        "X-Request-ID": "mine",
        "X-Original-URI": f"/?ticket={ticket}",
        "X-Forwarded-Uri": f"/?ticket={ticket}",
        "X-Forwarded-For": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
        "X-Token-Subject": "admin",
        "X-Token-Data": "admin",
        "X_Token_Data": "admin",
        "X-Token-Id": "0" * 18,
        "X_Token_Subject": "admin",
        "X-Token_Subject": "admin",
        "x_token-id": "0" * 18,
        "Authorization": "Bearer osk_x",
        # A proxy removes what this names, unless it sets the headers afterwards.
        "Connection": "close, Idempotency-Key, Authorization, X-Token-Subject, X-Token-Data",
    }

    assert door.ask("/?issued_by=x", forged).status_code == 401
    forged["X-One-Time-Token"] = ticket
    statuses = [door.ask("/?issued_by=x", forged).status_code for _ in range(4)]
    assert statuses == [200, 403, 403, 403]
    [seen] = Application.seen
    assert not {"x_token_subject", "x-token_subject", "x_token-id", "x_token_data"} & set(seen)
    assert not seen.get("x-token-data")
    assert seen["x-token-subject"] == door.issuer.id
    assert seen["x-token-id"] != "0" * 18
    assert seen.get("authorization", "Bearer osk_x") == "Bearer osk_x"  # Never the proxy's.


def test_a_client_names_no_issuer_and_no_purpose(door: Door) -> None:
    """Guard: the query of the gate is the recipe's alone."""
    with httpx.Client(base_url=door.service.url, timeout=30) as http:
        person = enrol(http.post)
    ticket = Door(door.service, door.proxy, person).ticket()
    for query in (f"issued_by={person.correo}", f"&issued_by={person.id}", "purpose=app.open"):
        for path in (f"/?{query}", f"/a?x=1&{query}", f"/%3F{query}", f"/%26{query}"):
            assert door.get(path, X_One_Time_Token=ticket).status_code == 403


def test_a_ticket_is_in_no_log(door: Door) -> None:
    """Guard: the format of the log, also of errors."""
    ticket = door.ticket()
    referring = {"Referer": f"{door.url}/events?ticket={ticket}"}
    assert door.get(f"/events?room=7&ticket={ticket}").status_code == 200
    assert door.get(f"/events?room=7&ticket={ticket}", **referring).status_code == 403
    assert door.get("/events?room=7&ticket=").status_code == 401
    assert door.get(f"/hangs-up?ticket={door.ticket()}", **referring).status_code in {502, 503}
    # No other test has this method, and not every log has a path.
    assert door.ask(method="PATCH").status_code == 401
    until(lambda: "PATCH" in door.proxy.access_log.read_text())
    assert "ott_" not in door.service.log.read_text()
    assert "ott_" not in door.proxy.logs()


def test_a_websocket_passes_and_its_application_sees_no_ticket(door: Door) -> None:
    for offer in ("ott, {}", "chat,ott , {}"):
        ticket = door.ticket()
        for status in (b"101", b"403"):
            head = door.shake_hands(offer.format(ticket))
            assert head.split(b" ", 2)[1] == status
            assert ticket.encode() not in head
    assert [seen["sec-websocket-protocol"] for seen in Application.seen] == ["ott", "ott"]
    assert "ott_" not in door.proxy.logs()


@pytest.mark.parametrize("path", ["/absent", "/broken", "/hangs-up"])
def test_a_pass_comes_also_with_an_error_of_the_application(door: Door, path: str) -> None:
    """Else the ticket is consumed, and the browser that repeats has none. Guard: ``always``."""
    response = door.get(path, X_One_Time_Token=door.ticket())
    assert response.status_code == {"/absent": 404, "/broken": 500}.get(path, response.status_code)
    assert response.status_code >= 400
    [cookie] = response.headers.get_list("Set-Cookie")
    assert door.get("/page", Cookie=cookie.partition(";")[0]).status_code == 200


def test_a_websocket_connects_again_with_its_pass(door: Door) -> None:
    """The 101 has the cookie too. Guard: ``always``."""
    offer = f"ott, {door.ticket()}"
    head = door.shake_hands(offer).decode()
    cookies = re.findall(r"^set-cookie: ([^;]*)", head, re.MULTILINE | re.IGNORECASE)
    if isinstance(door.proxy, Apache | Traefik):  # They add no header to a 101.
        assert not cookies
        first = door.get(X_One_Time_Token=door.ticket())
        cookies, offer = [first.headers["Set-Cookie"].partition(";")[0]], "ott"
    [cookie] = cookies
    assert door.shake_hands(offer, cookie).split(b" ", 2)[1] == b"101"


def test_the_application_knows_what_the_visitor_asked_for(door: Door) -> None:
    """The host with its port; and no address and no protocol that a client has made up."""
    forged = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    headers = {"Host": "app.example:8443", "X-One-Time-Token": door.ticket(), **forged}
    assert door.ask("/", headers).status_code == 200
    [seen] = Application.seen
    assert seen["host"] == "app.example:8443"
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")


def refusals_of(service: Service, ticket: str) -> list[dict[str, Any]]:
    """The lines of the service's log about a ticket that name the code of a refusal."""
    token_id = Token.parse(ticket).id
    told = [line for line in service.lines(token_id) if line.get("token_id") == token_id]
    return [line for line in told if "code" in line]


def test_the_logs_say_why_a_ticket_was_refused(door: Door) -> None:
    ticket = door.ticket(purpose="app.close")
    response = door.get(X_One_Time_Token=ticket)
    assert response.status_code == 403
    until(lambda: bool(refusals_of(door.service, ticket)))
    [line] = refusals_of(door.service, ticket)
    assert (line["code"], line["field"]) == ("token_mismatch", "purpose")
    words = {"token_mismatch", line["request_id"]}
    if isinstance(door.proxy, Caddy | Traefik | Envoy):
        # They write no id that the service knows, and Caddy 2.6 no code: the visitor gets both.
        names = ("X-Token-Code", "X-Request-ID")
        assert {response.headers[name] for name in names} == words
        words = set() if isinstance(door.proxy, Caddy) else {"token_mismatch"}
    until(lambda: all(word in door.proxy.access_log.read_text() for word in words))


def test_a_pass_admits_the_rest_of_a_page(door: Door) -> None:
    first = door.get("/page", X_One_Time_Token=door.ticket(subject="María"))
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    for _ in range(10):
        image = door.get("/image", Cookie=f"theme=dark; {cookie}")
        assert image.status_code == 200
        assert "Set-Cookie" not in image.headers
    assert {seen["x-token-subject"] for seen in Application.seen} == {"Mar%C3%ADa"}
    name, _, value = cookie.partition("=")
    assert door.get("/image", Cookie=f"{name}=x{value}").status_code == 401


def test_the_longest_subject_and_data_fit(door: Door) -> None:
    """Guard: ``proxy_buffer_size``, of nginx. Without it: 503, and the ticket is consumed."""
    subject, data = "🐘" * 255, {"a": "é" * ((ROOM - 8) // 2)}
    response = door.get(X_One_Time_Token=door.ticket(subject=subject, data=data))
    assert response.status_code == 200
    assert unquote(Application.seen[0]["x-token-subject"]) == subject
    assert json.loads(base64.urlsafe_b64decode(Application.seen[0]["x-token-data"])) == data
    assert len(response.headers["Set-Cookie"]) < 4096


def test_an_error_of_the_application_stays_its_own(door: Door) -> None:
    response = door.get("/broken", X_One_Time_Token=door.ticket())
    assert (response.status_code, response.text) == (500, "ok")


def test_an_event_passes_at_once(door: Door) -> None:
    """Guard: ``proxy_buffering``, of nginx. Without it an EventSource hears nothing."""
    with door.streaming("/events", {"X-One-Time-Token": door.ticket()}) as response:
        assert next(response.iter_lines()) == "data: 1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_every_method_needs_a_ticket(door: Door, method: str) -> None:
    body = b"x" * 20_000 if method in {"POST", "PUT"} else b""
    assert door.ask("/", {}, method, body).status_code == 401
    passed = door.ask("/", {"X-One-Time-Token": door.ticket()}, method, body)
    assert passed.status_code == 501  # The application knows GET alone.


def test_a_lost_reply_of_the_gate_loses_no_ticket(door: Door, lossy: Proxy) -> None:
    """The proxy asks again under its own id of the request. Guard: ``Idempotency-Key``."""
    for _ in range(3):
        ticket = door.ticket()
        lossy.lose(ticket.encode(), CUT)
        lost = lossy.lost[CUT]
        status = door.get(X_One_Time_Token=ticket).status_code
        # Traefik has no id of a request, and so loses the ticket, as the documentation says.
        assert status in ({403, 503} if isinstance(door.proxy, Traefik) else {200})
        assert lossy.lost[CUT] == lost + 1
        assert door.get(X_One_Time_Token=ticket).status_code == 403


def test_the_gate_gets_the_words_of_the_proxy(
    gateway: type[Gateway],
    backend: Backend,
    application: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what is neither of its three statuses is 503."""
    client = {
        "X-One-Time-Token": "a ticket",
        "Cookie": "a=b",
        "Idempotency-Key": "mine",
        "X-Request-ID": "mine",
        "X-Original-URI": "/mine",
        "X-Forwarded-Uri": "/mine",
        "X-Forwarded-Prefix": "/mine",
        "X-Forwarded-For": "203.0.113.7",
        "Authorization": "mine",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Token-Id": "mine",
        "X-Token-Subject": "mine",
        "X-Token-Data": "mine",
    }
    query = "purpose=app.open&issued_by=a@example.com&pass_seconds=60&data=1"
    with gateway(tmp_path, application, application, "osk_key", "a@example.com") as proxy:
        door = Door(backend.service, proxy, backend.issuer)

        def ask() -> int:
            Application.seen.clear()
            return door.ask("/a?b=c&ticket=d", client).status_code

        assert ask() == 200
        asked, passed = Application.seen
        assert asked["path"] == f"/token/gate?{query}"
        assert asked["authorization"] == "Bearer osk_key"
        assert (asked["x-one-time-token"], asked["cookie"]) == ("a ticket", "a=b")
        assert asked.get("x-original-uri", asked.get("x-forwarded-uri")) == "/a?b=c&ticket=d"
        assert "203.0.113.7" not in asked["x-forwarded-for"]
        if gateway is not Traefik:
            assert asked["idempotency-key"] == asked["x-request-id"]
        own = {name: text for name, text in asked.items() if "token" not in name}
        assert "mine" not in str(own)
        # The gate and the application belong to the trace of the visitor.
        assert asked["traceparent"] == passed["traceparent"] == client["Traceparent"]
        assert (passed["path"], passed["x-token-id"]) == ("/a?b=c&ticket=d", "of the gate")
        assert not passed.get("x-token-subject")
        assert not passed.get("x-token-data")
        told = {}
        for status in (302, 400, 404, 429, 500, 502, 503):
            monkeypatch.setattr(Application, "as_gate", status)
            told[status] = ask(), len(Application.seen)
        assert set(told.values()) == {(503, 1)}


def test_a_gate_that_cannot_answer_is_503(
    gateway: type[Gateway], backend: Backend, application: int, tmp_path: Path
) -> None:
    """Also where the key of the proxy is wrong: that is no fault of the visitor."""
    Application.seen.clear()
    with contextlib.ExitStack() as running:
        lossy = running.enter_context(Proxy(backend.service.port))
        issuer: Person = backend.issuer
        with gateway(tmp_path, lossy.port, application, backend.wrong_key, issuer.correo) as proxy:
            door = Door(backend.service, proxy, issuer)
            ticket = door.ticket()
            response = door.get(X_One_Time_Token=ticket)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            told = httpx.post(
                f"{door.service.url}/token/introspect",
                json={"token": ticket},
                headers=bearer(backend.wrong_key),
                timeout=30,
            )
            assert told.json()["active"]
            lossy.refuse()
            assert door.get(f"/?ticket={ticket}", X_One_Time_Token=ticket).status_code == 503
            assert not Application.seen
            assert "ott_" not in proxy.logs()


def test_the_first_lines_of_a_recipe_say_what_its_query_does(gateway: type[Gateway]) -> None:
    lines = (RECIPES / gateway.recipe[0]).read_text().splitlines()
    head = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    for word in ("pass_seconds", "data=1", "https", "opens once"):
        assert word in head


def test_nginx_guards_each_application_and_sends_the_key_to_none(
    backend: Backend, application: int, tmp_path: Path
) -> None:
    """Guards: the place of a further location; the name of the file of the key."""
    nested = "proxy_pass http://app;\n    location /b {\n      proxy_pass http://app;\n    }"
    changes = (("proxy_pass http://app;", nested),)
    service, correo, port = backend.service, backend.issuer.correo, free_port()
    proxy = Nginx(tmp_path, service.port, application, backend.key, correo, changes)
    site = f"listen 127.0.0.1:{port};\n  location / {{ proxy_pass http://app; }}"
    proxy.texts["site.conf"] = f"server {{\n  {site}\n}}\n"
    Application.seen.clear()
    with proxy:
        door = Door(service, proxy, backend.issuer)
        assert door.get("/b").status_code == 401
        assert door.get("/b", X_One_Time_Token=door.ticket()).status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/site", timeout=30).status_code == 200
    assert [seen["path"] for seen in Application.seen] == ["/b", "/site"]
    assert proxy.key not in str(Application.seen)
    files = filter(Path.is_file, tmp_path.iterdir())
    [key_file] = (path for path in files if proxy.key in path.read_text())
    assert key_file.stat().st_mode & 0o777 == 0o600
