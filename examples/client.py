"""Shared by the examples: a client of the token service, and a check that prints its result."""

import contextlib
import http.client
import json
import os
import secrets
import sys
import time
import urllib.parse
from typing import Any, NamedTuple

SERVICE = urllib.parse.urlsplit(os.environ.get("TOKEN_SERVICE", "http://localhost:8000"))
NO_RESPONSE = (OSError, http.client.HTTPException)


class Response(NamedTuple):
    """A status and its JSON body; the body of a refusal has a ``code``."""

    status: int
    body: dict[str, Any]


class Client:
    """A throw-away account, registered and logged in when it is created."""

    def __init__(self, nombre: str) -> None:
        correo = f"{nombre}.{secrets.token_hex(8)}@example.com"
        self._headers = {"Content-Type": "application/json"}
        account = {"correo": correo, "password": secrets.token_urlsafe(24)}
        registered = self.post("/auth/register", {"nombre": nombre, **account})
        check(registered.status == 201, f"the {nombre} has an account", registered)
        self.id: str = registered.body["id"]
        login = self.post("/auth/login", account)
        check(login.status == 200, f"the {nombre} is logged in", login)
        self._headers["Authorization"] = f"Bearer {login.body['access_token']}"

    def get(self, path: str) -> Response:
        return self._send("GET", path, b"", {})

    def post(self, path: str, body: dict[str, Any], key: str = "") -> Response:
        """Send ``body``; each repeat of the call carries the same ``Idempotency-Key``."""
        more = {"Idempotency-Key": key or secrets.token_urlsafe(16)}
        return self._send("POST", path, json.dumps(body).encode(), more)

    def _send(self, method: str, path: str, body: bytes, more: dict[str, str]) -> Response:
        response = Response(503, {"code": f"no answer from {SERVICE.geturl()}"})
        for last in (False, False, True):
            wait = 0.5
            # Without a response the outcome is unknown, and the same key makes it safe to repeat.
            with contextlib.suppress(*NO_RESPONSE):
                response, wait = self._send_once(method, path, body, self._headers | more)
                if response.status not in (429, 502, 503, 504):
                    break
                print(f"    {response.body['code']}: Retry-After is {wait:.0f} s")
            if not last:
                time.sleep(wait)
        return response

    def _send_once(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[Response, float]:
        secure = SERVICE.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(SERVICE.netloc, timeout=5)
        try:
            connection.request(method, SERVICE.path.rstrip("/") + path, body, headers)
            received = connection.getresponse()
            text = received.read()
        finally:
            connection.close()
        if "json" not in received.headers.get("Content-Type", "json"):
            sys.exit(f"FAILED: {SERVICE.geturl()} is not the token service")
        return (
            Response(received.status, json.loads(text or b"{}")),
            float(received.headers.get("Retry-After", 1)),
        )


def check(as_expected: bool, what: str, response: Response | None = None) -> None:
    """Print ``what`` if it is ``as_expected``, or else end the script with an error."""
    if not as_expected:
        sys.exit(f"FAILED: {what}" + (f": {response.status} {response.body}" if response else ""))
    print("ok ", what)
