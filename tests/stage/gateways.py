"""The proxies of deploy/gateways with their recipes, before a service and an application."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx

from dev.server import Server, free_port
from tests.stage.keys import new_key
from tests.stage.paths import ROOT
from tests.stage.people import Person, enrol
from tests.stage.programs import lacks_program, program
from tests.stage.service import Service
from tests.stage.sockets import accepts

#: Texts, and those in their place.
Changes = Iterable[tuple[str, str]]
APACHE_MODULES = (
    "authz_core",
    "env",
    "headers",
    "lua",
    "mpm_event",
    "proxy",
    "proxy_http",
    "unique_id",
)
LUA_SOCKET = Path("/usr/share/lua/5.3/socket/http.lua")
RECIPES = ROOT / "deploy" / "gateways"
PURPOSE = "app.open"
#: The addresses in the recipes: of the service, and of the application.
TOKENS, APP = "127.0.0.1:8000", "127.0.0.1:3000"


class Gateway(Server):
    """A proxy with its recipe, changed as the recipe says.

    :cvar recipe: its files, the first of which the program reads
    :cvar there: the texts in them that name a port or a folder, and those in their place
    """

    stop_signal = signal.SIGTERM
    recipe: ClassVar[tuple[str, ...]]
    there: ClassVar[Changes]

    def __init__(
        self,
        directory: Path,
        tokens: int,
        app: int,
        key: str,
        issuer: str,
        changes: Changes = (),
    ) -> None:
        """:param changes: texts of the recipe, and those in their place"""
        super().__init__(directory)
        self.key = key
        self.access_log = self.directory / "access.log"
        self.texts = {name: (RECIPES / name).read_text() for name in self.recipe}
        places = {"port": self.port, "other": free_port(), "folder": self.directory}
        self.change(changes)
        self.change((old, new.format_map(places)) for old, new in self.there)
        self.change(self.addresses(tokens, app))
        self.change((("backend@example.com", issuer),))

    def addresses(self, tokens: int, app: int) -> Changes:
        """The addresses of the recipe, and those of this test."""
        return (TOKENS, f"127.0.0.1:{tokens}"), (APP, f"127.0.0.1:{app}")

    def change(self, changes: Changes) -> None:
        for old, new in changes:
            assert any(old in text for text in self.texts.values()), old
            # The port of another program may begin as one of the recipe.
            parts = re.compile(re.escape(old) + r"(?!\d)")
            self.texts = {name: new.join(parts.split(text)) for name, text in self.texts.items()}

    def prepare(self) -> None:
        for name, text in self.texts.items():
            (self.directory / name).write_text(text)

    def options(self) -> dict[str, Any]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        return {"env": own | {"TOKEN_GATE_KEY": self.key}}

    def responds(self) -> bool:
        return accepts(self.port)

    def logs(self) -> str:
        """All that the proxy has written."""
        return "".join(path.read_text() for path in self.directory.glob("*.log"))


class Nginx(Gateway):
    """It reads each ``.conf`` of its folder, as that of Debian reads those of ``conf.d/``."""

    name, recipe = "nginx", ("nginx.conf",)
    there = (
        ("listen 8080", "listen 127.0.0.1:{port}"),
        ("/var/log/nginx/", "{folder}/"),
        ("/etc/nginx/", "{folder}/"),
    )

    def prepare(self) -> None:
        super().prepare()
        folder = self.directory
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "main").write_text(
            f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr emerg;\n"
            f"events {{}}\nhttp {{\n{temporary}include {folder}/*.conf;\n}}\n"
        )
        # The recipe says how to write the file of the key.
        steps = re.findall(r"^#   (umask .*|printf .*)$", self.texts["nginx.conf"], re.MULTILINE)
        environment = {**os.environ, "key": self.key}
        subprocess.run(["/bin/sh", "-euc", "\n".join(steps)], env=environment, check=True)

    def command(self) -> list[str]:
        folder = str(self.directory)
        return [program("nginx"), "-c", f"{folder}/main", "-p", folder]


class Caddy(Gateway):
    name, recipe = "caddy", ("Caddyfile",)
    there = (
        (":8080 {", "http://:{port} {{\n\tbind 127.0.0.1"),
        ("/var/log/caddy/", "{folder}/"),
        ("\tlog {\n\t\timport", "\tadmin off\n\tlog {{\n\t\timport"),
    )

    def command(self) -> list[str]:
        return [program("caddy"), "run", "--config", str(self.directory / "Caddyfile")]


class HAProxy(Gateway):
    """Its log is its standard output, and so both are one file."""

    name, recipe = "haproxy", ("haproxy.cfg", "haproxy.lua")
    there = (
        ("bind :8080", "bind 127.0.0.1:{port}"),
        ("token-gate\n", "token-gate-{port}\n"),
        ('"abns@token-gate"', '"abns@token-gate-{port}"'),
        ("/etc/haproxy/", "{folder}/"),
    )

    def command(self) -> list[str]:
        self.access_log = self.log
        return [program("haproxy"), "-db", "-f", str(self.directory / "haproxy.cfg")]


class Apache(Gateway):
    name, recipe = "apache2", ("apache.conf", "apache.lua")
    there = (
        ("Listen 8080", "Listen 127.0.0.1:{port}"),
        ("*:8080", "*:{port}"),
        ("/var/log/apache2/", "{folder}/"),
        ("/etc/apache2/", "{folder}/"),
    )

    def prepare(self) -> None:
        super().prepare()
        (self.directory / "main.conf").write_text(
            f"ServerRoot {self.directory}\nServerName localhost\nPidFile {self.directory}/pid\n"
            f"DefaultRuntimeDir {self.directory}\nMutex file:{self.directory}\n"
            "ErrorLog /dev/stderr\n"
            + "".join(
                f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
                for name in APACHE_MODULES
            )
            + f"Include {self.directory}/apache.conf\n"
        )

    def command(self) -> list[str]:
        if not LUA_SOCKET.exists():
            lacks_program("lua-socket")
        return [program("apache2"), "-X", "-f", f"{self.directory}/main.conf"]


class Traefik(Gateway):
    name, recipe = "traefik", ("traefik.yml", "traefik-door.yml")
    there = (
        ('":8080"', '"127.0.0.1:{port}"'),
        ("127.0.0.1:8079", "127.0.0.1:{other}"),
        ("providers:\n", "providers:\n  providersThrottleDuration: 10ms\n"),
        ("/var/log/traefik/", "{folder}/"),
        ("/etc/traefik/", "{folder}/"),
    )

    def __init__(self, directory: Path, tokens: int, app: int, key: str, issuer: str) -> None:
        super().__init__(directory, tokens, app, key, issuer)
        self.change(((cookie_of("backend@example.com"), cookie_of(issuer)),))

    def command(self) -> list[str]:
        return [program("traefik"), f"--configFile={self.directory}/traefik.yml"]

    def responds(self) -> bool:
        """It listens before it has read the routes."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}").status_code != 404
        return False


def cookie_of(issuer: str) -> str:
    """The name of the cookie of a pass, as the recipe has it."""
    text = "\0".join((PURPOSE, issuer))
    return f"__Host-ott-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Envoy(Gateway):
    name, recipe = "envoy", ("envoy.yaml",)
    there = (
        ("address: 0.0.0.0, port_value: 8080", "address: 127.0.0.1, port_value: {port}"),
        ("/var/log/envoy/", "{folder}/"),
    )

    def addresses(self, tokens: int, app: int) -> Changes:
        address = "address: 127.0.0.1, port_value: {}".format
        return (address(8000), address(tokens)), (address(3000), address(app))

    def command(self) -> list[str]:
        file = str(self.directory / "envoy.yaml")
        flags = "--disable-hot-restart --concurrency 1 --file-flush-interval-msec 10"
        return [program("envoy"), "-c", file, *flags.split()]


GATEWAYS = (Nginx, Caddy, HAProxy, Apache, Traefik, Envoy)


class Backend:
    """A service, an account that issues tickets, and the keys of proxies.

    :ivar wrong_key: one that may not ask the gate
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        with httpx.Client(base_url=service.url, timeout=30) as http:
            self.issuer, owner = enrol(http.post), enrol(http.post)
            self.key = new_key(http.post, owner, scopes=["token:consume"])["key"]
            self.wrong_key = new_key(http.post, owner, scopes=["token:read"])["key"]


@contextlib.contextmanager
def serving(application: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of an application, which answers each request in a thread of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), application)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Door:
    """A proxy with its service, and the account that issues the tickets."""

    def __init__(self, service: Service, proxy: Gateway, issuer: Person) -> None:
        self.service, self.proxy, self.issuer = service, proxy, issuer
        self.url = f"http://127.0.0.1:{proxy.port}"
        # A new connection each time, as from another visitor.
        self._http = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))

    def ticket(self, **terms: Any) -> str:
        made = self._http.post(
            f"{self.service.url}/token/create",
            json={"purpose": PURPOSE, "expires_in": 60, **terms},
            headers=self.issuer.headers,
        )
        return str(made.json()["token"])

    def ask(
        self,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> httpx.Response:
        return self._http.request(method, self.url + path, headers=headers, content=body)

    def shake_hands(self, protocols: str, cookie: str = "") -> bytes:
        """The head of the response to a WebSocket."""
        kept = f"Cookie: {cookie}\r\n" if cookie else ""
        upgrade = (
            "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: {protocols}\r\n{kept}\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.proxy.port), 30) as connection:
            connection.sendall(upgrade.encode())
            return connection.recv(65_536)

    def streaming(
        self, path: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[httpx.Response]:
        """A response that is read as it comes."""
        return self._http.stream("GET", self.url + path, headers=headers)

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return self.ask(path, {name.replace("_", "-"): text for name, text in headers.items()})
