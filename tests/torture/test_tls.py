"""TLS to Redis and Postgres: nothing is sent to a server without a trusted certificate."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from flask import Flask

import dev
from tests.stage.connections import connect
from tests.stage.programs import lacks, needs_program, program
from tests.stage.topologies import SLOTS, Node, Watcher, port_of_a_node
from tests.stage.waiting import until
from tests.torture.ledger import record
from tokenservice.extensions import db
from tokenservice.onetime.errors import StoreUnavailable

TLS_HANDSHAKE = b"\x16"  # RFC 8446 section 5.1
pytestmark = needs_program("openssl")  # It makes the certificates.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ours`` for 127.0.0.1, ``elsewhere`` for another name, ``theirs`` of another authority.

    Each is its own authority, with its key beside it.
    """
    folder = tmp_path_factory.mktemp("certificates")
    names = {"ours": "IP:127.0.0.1", "elsewhere": "DNS:db.example", "theirs": "IP:127.0.0.1"}
    for name, subject in names.items():
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        words += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}", "-days", "1"]
        words += ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([program("openssl"), *words], cwd=folder, check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def relay(port: int, certificate: Path) -> Iterator[int]:
    """A port that terminates TLS for the server at ``port``, and passes plain connections on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),  # a client without trust closes the connection
                self.begun() as outside,
                socket.create_connection(("127.0.0.1", port)) as inside,
            ):
                while True:
                    pending = isinstance(outside, ssl.SSLSocket) and outside.pending()
                    ready = [outside] if pending else []
                    ready = ready or select.select([outside, inside], [], [], 30)[0]
                    for one in ready:
                        data = one.recv(16384)
                        if not data:
                            return
                        (inside if one is outside else outside).sendall(data)

        def begun(self) -> socket.socket:
            is_tls = self.request.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE
            return context.wrap_socket(self.request, server_side=True) if is_tls else self.request

    class Relays(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Relays(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def readiness(make_app: Callable[..., Flask], **settings: str) -> dict[str, str]:
    app = make_app(**settings)
    checks: dict[str, str] = app.test_client().get("/readyz").get_json()["checks"]
    with app.app_context():
        db.engine.dispose()
    return checks


def test_redis_needs_a_trusted_certificate(
    certificates: Path, app: Flask, make_app: Callable[..., Flask], redis_server: dev.Redis
) -> None:
    """S51. Guard: the defaults of the client, which the service does not loosen."""
    cases = [
        ("ours", "ours", "ok"),
        ("ours", "theirs", "unavailable"),
        ("elsewhere", "elsewhere", "unavailable"),
    ]
    seen = []
    for shown, trusted, _ in cases:
        with relay(redis_server.port, certificates / f"{shown}.pem") as port:
            url = f"rediss://:{redis_server.password}@127.0.0.1:{port}/0"
            url += f"?ssl_ca_certs={certificates / trusted}.pem"
            seen.append(readiness(make_app, redis_url=url)["redis"])
    plain = redis_server.url.replace("redis://", "rediss://")
    seen.append(readiness(make_app, redis_url=plain)["redis"])
    wanted = [*(wanted for *_, wanted in cases), "unavailable"]
    failures = sum(one != other for one, other in zip(seen, wanted, strict=True))
    record(
        "With rediss:// Redis needs a trusted certificate.",
        n=len(wanted),
        failures=failures,
    )
    assert seen == wanted


class Announced(Node):
    """A node that is announced to others with the port of a relay."""

    announced = 0

    @property
    def address(self) -> str:
        return f"{self.host.address} {self.announced}"


@contextlib.contextmanager
def sentinel(certificate: Path, directory: Path) -> Iterator[str]:
    """The URL of a master and a sentinel with its own password, each behind a relay."""
    password = secrets.token_urlsafe(24)
    with (
        Announced(directory / "master", password, {}) as master,
        relay(master.port, certificate) as master.announced,
        Watcher(directory / "watcher", master) as watcher,
        relay(watcher.port, certificate) as port,
    ):
        client = watcher.client()
        client.execute_command("ACL", "SETUSER", "watched", "on", ">by whom", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
        own = "sentinel_username=watched&sentinel_password=by%20whom"
        yield f"rediss+sentinel://:{password}@127.0.0.1:{port}/tokens?{own}"


@contextlib.contextmanager
def cluster(certificate: Path, directory: Path) -> Iterator[str]:
    """The URL of a cluster of one node, behind a relay that it announces."""
    password, inner = secrets.token_urlsafe(24), port_of_a_node()
    with relay(inner, certificate) as port:
        settings = {"cluster-enabled": "yes", "cluster-announce-port": str(port)}
        settings["cluster-announce-ip"] = "127.0.0.1"
        with Node(directory, password, settings, inner) as node:
            client = node.client()
            client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
            until(lambda: client.cluster("info")["cluster_state"] == "ok")
            yield f"rediss+cluster://:{password}@127.0.0.1:{port}"


@pytest.mark.parametrize("deployed", [sentinel, cluster])
def test_sentinels_and_clusters_need_a_trusted_certificate(
    deployed: Callable[[Path, Path], AbstractContextManager[str]],
    certificates: Path,
    tmp_path: Path,
) -> None:
    """Guard: ``ssl`` and the options in ``Connection._connect``, for servers and sentinels."""
    seen = {}
    with deployed(certificates / "ours.pem", tmp_path) as url:
        for trusted in ("ours", "theirs"):
            address = f"{url}{'&' if '?' in url else '?'}ssl_ca_certs={certificates / trusted}.pem"
            connection = connect(address, connect_ms=2000, read_ms=5000, connections=1)
            try:
                seen[trusted] = connection.script("return KEYS[1]")(["key"]).decode()
            except StoreUnavailable as error:
                seen[trusted] = str(error)
    record(
        f"With rediss+{deployed.__name__}:// every server needs a trusted certificate.",
        n=len(seen),
        failures=int(seen["ours"] != "key") + int("certificate" not in seen["theirs"].lower()),
    )
    assert seen["ours"] == "key"
    assert "certificate" in seen["theirs"].lower()


class PostgresWithTls(dev.Postgres):
    """A Postgres with TLS, and its certificate beside its data."""

    def __init__(self, directory: Path, certificate: Path) -> None:
        super().__init__(directory, durable=False)
        self._certificate = certificate

    def prepare(self) -> None:
        super().prepare()
        for source in (self._certificate, self._certificate.with_suffix(".key")):
            copy = Path(shutil.copy(source, self._data / f"tls{source.suffix}"))
            copy.chmod(0o600)
            if self._account:
                os.chown(copy, self._account["user"], self._account["group"])

    def command(self) -> list[str]:
        tls = ["--ssl=on", "--ssl_cert_file=tls.pem", "--ssl_key_file=tls.key"]
        return [*super().command(), *tls]


def test_postgres_needs_a_trusted_certificate(
    certificates: Path,
    app: Flask,
    make_app: Callable[..., Flask],
    postgres: dev.Postgres,
    tmp_path: Path,
) -> None:
    """S51. Guard: sslmode=verify-full, which reaches libpq."""
    seen = {}
    try:
        with PostgresWithTls(tmp_path, certificates / "ours.pem") as server:
            for trusted in ("ours", "theirs"):
                ask = f"?sslmode=verify-full&sslrootcert={certificates / trusted}.pem"
                seen[trusted] = readiness(make_app, database_url=server.url + ask)["postgres"]
            name = server.url.replace("127.0.0.1", "localhost")
            ask = f"?sslmode=verify-full&sslrootcert={certificates / 'ours'}.pem"
            seen["another name"] = readiness(make_app, database_url=name + ask)["postgres"]
    except dev.CannotStart as error:
        if "SSL is not supported" in str(error):
            lacks("this Postgres was built without TLS")
        raise
    seen["no TLS"] = readiness(make_app, database_url=postgres.url + ask)["postgres"]
    wanted = {"ours": "ok"} | dict.fromkeys(("theirs", "another name", "no TLS"), "unavailable")
    record(
        "With sslmode=verify-full Postgres needs a trusted certificate.",
        n=len(wanted),
        failures=sum(seen[name] != wanted[name] for name in wanted),
    )
    assert seen == wanted
