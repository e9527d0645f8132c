"""The recipes of deploy/gateways, with the real proxies, before the gate of a real service."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from dev.server import Server
from tests.stage.keys import bearer, new_key
from tests.stage.paths import ROOT
from tests.stage.people import Person, enrol
from tests.stage.programs import program
from tests.stage.service import Service
from tests.stage.sockets import accepts

RECIPES = ROOT / "deploy" / "gateways"
PURPOSE = "app.open"

pytestmark = pytest.mark.slow


class Application(BaseHTTPRequestHandler):
    """What stands behind the proxy: it keeps the headers of each request."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        if "Upgrade" in self.headers:
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
            self.end_headers()
            self.close_connection = True
            return
        status = 500 if self.path == "/broken" else 200
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


class Nginx(Server):
    """nginx with the recipe, its addresses and the key changed as the recipe says."""

    name = "nginx"

    def __init__(self, directory: Path, tokens: int, app: int, key: str, issuer: str) -> None:
        super().__init__(directory)
        directory.mkdir(exist_ok=True)
        recipe = (RECIPES / "nginx.conf").read_text()
        for old, new in (
            ("127.0.0.1:8000", f"127.0.0.1:{tokens}"),
            ("127.0.0.1:3000", f"127.0.0.1:{app}"),
            ("listen 8080", f"listen 127.0.0.1:{self.port}"),
            ("backend@example.com", issuer),
            ("/var/log/nginx/", f"{directory}/"),
        ):
            assert old in recipe
            recipe = recipe.replace(old, new)
        own = "".join(
            f"{name}_temp_path {directory}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(
            f"daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log stderr crit;\n"
            f"events {{}}\nhttp {{\n{own}{recipe}\n}}\n"
        )
        (directory / "token-gate-key.conf").write_text(
            f'proxy_set_header Authorization "Bearer {key}";\n'
        )
        self.access_log = directory / "access.log"

    def command(self) -> list[str]:
        folder = str(self.directory)
        return [program("nginx"), "-c", f"{folder}/nginx.conf", "-p", folder]

    def responds(self) -> bool:
        return accepts(self.port)


class Door:
    """A proxy with its service and its application, and the account that issues the tickets."""

    def __init__(self, service: Service, proxy: Nginx, issuer: Person) -> None:
        self.service, self.proxy, self.issuer = service, proxy, issuer
        self.url = f"http://127.0.0.1:{proxy.port}"
        self.seen = Application.seen = []

    def ticket(self, **terms: Any) -> str:
        made = httpx.post(
            f"{self.service.url}/token/create",
            json={"purpose": PURPOSE, "expires_in": 60, **terms},
            headers=self.issuer.headers,
        )
        return str(made.json()["token"])

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(self.url + path, headers=named, timeout=30)


@pytest.fixture(scope="module")
def application() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def opened(
    serve: Callable[..., Service], application: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    with serve(web_concurrency=2) as service:
        with httpx.Client(base_url=service.url, timeout=30) as http:
            issuer = enrol(http.post)
            key = new_key(http.post, enrol(http.post), scopes=["token:consume"])["key"]
        folder = tmp_path_factory.mktemp("nginx")
        with Nginx(folder, service.port, application, key, issuer.correo) as proxy:
            yield Door(service, proxy, issuer)


@pytest.fixture
def door(opened: Door) -> Door:
    opened.seen.clear()
    return opened


def test_a_request_passes_with_a_ticket_and_once(door: Door) -> None:
    assert door.get().status_code == 401
    ticket = door.ticket(subject="María")
    response = door.get(X_One_Time_Token=ticket)
    assert (response.status_code, response.text) == (200, "ok")
    [seen] = door.seen
    assert seen["x-token-subject"] == "Mar%C3%ADa"
    assert len(seen["x-token-id"]) == 18
    assert "x-one-time-token" not in seen
    assert "authorization" not in seen
    assert door.get(X_One_Time_Token=ticket).status_code == 403
    assert door.get(X_One_Time_Token=door.ticket(), Host="x").status_code == 200


def test_what_a_client_sends_in_place_of_the_proxy_gains_nothing(door: Door) -> None:
    """One passes, whatever it says of keys, ids and addresses."""
    ticket = door.ticket()
    forged = {
        "Idempotency_Key": "mine",
        "X_Request_ID": "mine",
        "X_Original_URI": f"/?ticket={ticket}",
        "X_Forwarded_Uri": f"/?ticket={ticket}",
        "X_Token_Subject": "admin",
        "X_Token_Id": "0" * 18,
        "Authorization": "Bearer osk_x",
    }
    assert door.get(**forged).status_code == 401
    statuses = [door.get(X_One_Time_Token=ticket, **forged).status_code for _ in range(4)]
    assert statuses == [200, 403, 403, 403]
    [seen] = door.seen
    assert seen["x-token-subject"] == door.issuer.id
    assert seen["x-token-id"] != "0" * 18
    assert seen["authorization"] == "Bearer osk_x"  # The client's own, and not the proxy's.


def test_a_ticket_in_an_address_is_in_no_log(door: Door) -> None:
    ticket = door.ticket()
    assert door.get(f"/events?room=7&ticket={ticket}").status_code == 200
    assert door.get(f"/events?room=7&ticket={ticket}").status_code == 403
    assert door.get("/events?room=7&ticket=").status_code == 401
    for log in (door.proxy.access_log, door.proxy.log, door.service.log):
        assert "ott_" not in log.read_text()
    assert '"GET /events" 200' in door.proxy.access_log.read_text()


def test_a_websocket_passes_and_its_application_sees_no_ticket(door: Door) -> None:
    ticket = door.ticket()
    upgrade = (
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: ott, {ticket}\r\n\r\n"
    )
    for status in (b"101", b"403"):
        with socket.create_connection(("127.0.0.1", door.proxy.port), 30) as connection:
            connection.sendall(upgrade.encode())
            head = connection.recv(65_536)
        assert head.split(b" ", 2)[1] == status
        assert ticket.encode() not in head
    [seen] = door.seen
    assert seen["sec-websocket-protocol"] == "ott"


def test_a_pass_admits_the_rest_of_a_page(door: Door) -> None:
    first = door.get("/page", X_One_Time_Token=door.ticket(subject="María"))
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    for _ in range(10):
        image = door.get("/image", Cookie=cookie)
        assert image.status_code == 200
        assert "Set-Cookie" not in image.headers
    assert {seen["x-token-subject"] for seen in door.seen} == {"Mar%C3%ADa"}
    name, _, value = cookie.partition("=")
    assert door.get("/image", Cookie=f"{name}=x{value}").status_code == 401


def test_the_longest_subject_fits(door: Door) -> None:
    """Guard: ``proxy_buffer_size``. Without it the answer is 503, and the ticket is consumed."""
    subject = "🐘" * 255
    response = door.get(X_One_Time_Token=door.ticket(subject=subject))
    assert response.status_code == 200
    assert unquote(door.seen[0]["x-token-subject"]) == subject
    assert len(response.headers["Set-Cookie"]) < 4096


def test_an_error_of_the_application_stays_its_own(door: Door) -> None:
    response = door.get("/broken", X_One_Time_Token=door.ticket())
    assert (response.status_code, response.text) == (500, "ok")


def test_a_gate_that_cannot_answer_is_503(
    serve: Callable[..., Service], application: int, tmp_path: Path
) -> None:
    """Also where the key of the proxy is wrong: that is no fault of the visitor."""
    with contextlib.ExitStack() as running:
        service = running.enter_context(serve(web_concurrency=1))
        with httpx.Client(base_url=service.url, timeout=30) as http:
            issuer = enrol(http.post)
            wrong = new_key(http.post, issuer, scopes=["token:read"])["key"]
        with Nginx(tmp_path / "nginx", service.port, application, wrong, issuer.correo) as proxy:
            door = Door(service, proxy, issuer)
            ticket = door.ticket()
            response = door.get(X_One_Time_Token=ticket)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            told = httpx.post(
                f"{service.url}/token/introspect", json={"token": ticket}, headers=bearer(wrong)
            )
            assert told.json()["active"]
            running.close()
            assert door.get(X_One_Time_Token=ticket).status_code == 503
            assert not door.seen
