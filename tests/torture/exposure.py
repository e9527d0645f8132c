"""A service that holds secrets, and all the ways to send it one, by design or mistake."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx

import dev
from tests.stage.people import new_correo
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.canaries import Canaries
from tokenservice.auth.rights import SCOPES

FORM = "application/x-www-form-urlencoded"
Call = tuple[str, str, dict[str, Any]]


@dataclasses.dataclass
class Exposed:
    """A service with verbose logs, its stores, and the secrets that it was given."""

    service: Service
    postgres: dev.Postgres
    redis: dev.Redis
    settings: dict[str, str]
    canaries: Canaries
    http: httpx.Client
    outputs: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request whose response must hold no secret."""
        response = self.http.request(method, path, **options)
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        # Not the URL: the test may have put a secret there.
        self.outputs.append(
            (f"the response {response.status_code}", head.encode() + response.content)
        )
        return response

    def given(self, method: str, path: str, field: str, **options: Any) -> str:
        """Send a request for a secret, until a store answers it in time."""
        response: httpx.Response

        def answered() -> bool:
            nonlocal response
            response = self.http.request(method, path, **options)
            return response.status_code < 500

        until(answered)
        return str(response.json().get(field, ""))


def give_secrets(exposed: Exposed) -> dict[str, str]:
    """Create an account, a token in each state and a reservation; return the account's headers."""
    canaries, correo = exposed.canaries, new_correo()
    password = canaries.add("a password", "tres tigres " + secrets.token_urlsafe(12))
    account = {"nombre": "Ana", "correo": correo, "password": password}
    login = {"correo": correo, "password": password}
    # After an outage the service takes a moment to ask Postgres again.
    until(lambda: exposed.call("POST", "/auth/register", json=account).status_code < 500)
    bearer = exposed.given("POST", "/auth/login", "access_token", json=login)
    headers = {"Authorization": f"Bearer {canaries.add('a JWT', bearer)}"}
    # Of another session: a reuse would end this one.
    refresh = exposed.given("POST", "/auth/login", "refresh_token", json=login)
    canaries.add("a refresh token", refresh)
    for name in ("a token", "a token held", "a token under a key"):
        key = {"Idempotency-Key": secrets.token_hex(8)} if name.endswith("key") else {}
        options = {"json": {"expires_in": 3600}, "headers": {**headers, **key}}
        canaries.add(name, exposed.given("POST", "/token/create", "token", **options))
    keyed = {**headers, "Idempotency-Key": secrets.token_hex(8)}
    held = {"json": {"token": canaries.texts["a token held"]}, "headers": keyed}
    reservation = exposed.given("POST", "/token/reserve", "reservation", **held)
    canaries.add("a reservation", reservation)
    program = {"json": {"name": "a program", "scopes": [*SCOPES]}, "headers": headers}
    key = canaries.add("a service key", exposed.given("POST", "/auth/keys", "key", **program))
    form = {"data": {"grant_type": "client_credentials", "client_secret": key}}
    jwt = exposed.given("POST", "/auth/token", "access_token", **form)
    canaries.add("a JWT of a key", jwt)
    return headers


def uses(exposed: Exposed, headers: dict[str, str]) -> None:
    """Make every call of the contract twice: the first succeeds, the second is mostly refused."""
    texts = exposed.canaries.texts
    account = {"nombre": "Ana", "correo": new_correo(), "password": texts["a password"]}
    for _ in range(2):
        exposed.call("POST", "/auth/register", json=account)
        for path in ("introspect", "validate", "revoke"):
            body = {"token": texts["a token"]}
            exposed.call("POST", f"/token/{path}", json=body, headers=headers)
        keyed = {**headers, "Idempotency-Key": "a-key"}
        body = {"token": texts["a token under a key"]}
        exposed.call("POST", "/token/validate", json=body, headers=keyed)
        for path in ("commit", "release"):
            body = {"reservation": texts["a reservation"]}
            exposed.call("POST", f"/token/{path}", json=body, headers=headers)
    exposed.call("POST", "/auth/revoke", data={"token": f"{texts['a refresh token']}x"})
    for path in ("/token", "/auth/me", "/auth/sessions", "/readyz", "/openapi.json", "/nowhere"):
        exposed.call("GET", path, headers=headers)
    for name in ("a service key", "a JWT of a key"):
        bearer = {"Authorization": f"Bearer {texts[name]}"}
        for path in ("/token", "/auth/keys"):
            exposed.call("GET", path, headers=bearer)
        exposed.call("POST", "/auth/revoke", data={"token": f"{texts[name]}x"})
        form = {"grant_type": "password", "client_secret": texts[name]}
        exposed.call("POST", "/auth/token", data=form)
    bearer = {"Authorization": f"Bearer {texts['the metrics token']}"}
    exposed.call("GET", "/metrics", headers=bearer)


#: Headers that may get a secret by mistake.
HEADERS = ("Idempotency-Key", "traceparent", "User-Agent", "Referer", "Cookie", "Origin", "Accept")
HEADERS += ("Content-Type", "Content-Encoding", "Accept-Language", "X-Forwarded-For", "If-Match")
BODIES = (
    "auth/register",
    "auth/login",
    "token/create",
    "token/consume",
    "token/validate",
    "token/commit",
)
BODIES += ("auth/keys", "auth/token", "auth/revoke", "auth/refresh", "auth/password/reset")


def mistakes(secret: str, name: str, signed: dict[str, str]) -> Iterator[Call]:
    """One call for each place in a request that can hold the secret, by design or not."""
    escaped = quote(secret, safe="")
    for header in HEADERS:
        yield "POST", "/token/create", {"headers": {**signed, header: secret}}
    if name.startswith(("a token", "a JWT", "a reservation", "a service key", "a refresh token")):
        yield "GET", "/auth/me", {"headers": {**signed, "X-Request-ID": secret}}
    for scheme in ("Basic ", "Bearer x", "Bearer ", "Token ", ""):
        yield "GET", "/auth/me", {"headers": {"Authorization": scheme + secret + "~"}}
    yield "GET", f"/token/{escaped}", {"headers": signed}
    yield "GET", f"/problems/{escaped}", {}
    yield "GET", f"/{escaped}?token={escaped}&password={escaped}", {}
    yield "GET", f"/token?cursor={escaped}&state={escaped}&purpose={escaped}", {"headers": signed}
    yield "PUT", f"/token/validate?token={escaped}", {"headers": signed}
    for path in BODIES:
        # Not as a field's name: the response names unknown fields.
        for field in ("token", "reservation", "password", "correo", "bind", "expires_in"):
            yield "POST", f"/{path}", {"headers": signed, "json": {field: secret}}
            yield "POST", f"/{path}", {"headers": signed, "json": {field: [secret, {secret: 1}]}}
        yield "POST", f"/{path}", {"headers": signed, "data": {"username": secret, "x": secret}}
        yield "POST", f"/{path}", {"headers": signed, "files": {"token": secret}}
        for kind in ("application/json", "text/plain", FORM, "application/xml"):
            typed = {**signed, "Content-Type": kind}
            for body in (secret, f'{{"password": "{secret}"', f'"{secret}"' + " " * 17_000):
                yield "POST", f"/{path}", {"headers": typed, "content": body}


def broken(secret: str) -> Iterator[bytes]:
    """Bytes that gunicorn refuses before there is a request, with a secret in them."""
    text = secret.encode()
    post = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    yield b"POST /auth/login?p=" + text + b" x HTTP/1.1\r\n\r\n"
    yield b"GET /" + text + b" HTTP/9.9\r\n\r\n"
    yield b"GET /?" + text * 200 + b" HTTP/1.1\r\n\r\n"
    yield text + b"\r\n\r\n"
    yield post + b"Authorization Bearer " + text + b"\r\n\r\n"
    yield post + b"Authorization: Bearer " + text + b"\r\n folded\r\n\r\n"
    yield post + b"Authorization: Bearer " + text + b"\x00\r\n\r\n"
    yield post + b"Authorization: Bearer " + text * 400 + b"\r\n\r\n"
    yield post + b"X-" + text + b" y: x\r\n\r\n"
    yield post + b"Transfer-Encoding: " + text + b"\r\n\r\n"
    yield post + b"Expect: " + text + b"\r\n\r\n"
    yield post + b"Content-Length: " + text + b"\r\n\r\n"
    yield post + b"Content-Length: 2\r\n\r\n{}" + text + b"\r\n\r\n"
    yield post + b"Content-Length: 2000\r\n\r\n" + text
    yield post + b"Transfer-Encoding: chunked\r\n\r\n" + text + b"\r\n"
    yield post + b"Transfer-Encoding: chunked\r\n\r\n1;" + text + b"\x00\r\n{\r\n"
    yield post + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{" + text + b"\r\n"
    yield post + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + text + b"\r\n\r\n"
    yield post + b"Authorization: Bearer " + text
    yield b"GET /" + text


def send_raw(exposed: Exposed, port: int, request: bytes) -> None:
    """Send raw bytes to the service, or to the proxy before it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        received = b""
        with contextlib.suppress(OSError):  # The service may refuse it before its end.
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := raw.recv(65536):
                received += part
    exposed.outputs.append(("a refusal", received))
