"""Calls of the service over HTTP, as a program of its user makes them."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import select
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NO_RESPONSE = (OSError, http.client.HTTPException)
#: The longest wait for a response.
SECONDS = 10.0
#: The outcome is unknown: the same call, with the same key, is safe to repeat.
UNKNOWN = (None, 503)
PATIENCE_SECONDS, PAUSE_SECONDS = 2.0, 0.25


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call and its response.

    :ivar key: its Idempotency-Key
    :ivar status: None where no response was read
    :ivar wait: the seconds of Retry-After
    :ivar tries: how often it was sent
    """

    path: str
    method: str = "POST"
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)
    key: str = field(default_factory=lambda: secrets.token_hex(4))
    status: int | None = None
    received: Mapping[str, Any] = field(default_factory=dict, repr=False)
    wait: int = 0
    tries: int = 1


@dataclass(frozen=True)
class Program:
    """A caller of the service on a port of loopback.

    :ivar credentials: a service key or a JWT
    :ivar language: that of the problems it receives
    """

    port: int
    credentials: str = field(default="", repr=False)
    language: str = "en"

    def call(self, call: Call) -> Call:
        [made] = self.calls([call])
        return made

    def calls(self, calls: list[Call]) -> list[Call]:
        """Make calls at once; repeat those of an unknown outcome, each with its key."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        made = self.at_once(calls)
        while time.monotonic() < deadline:
            unknown = [place for place, call in enumerate(made) if call.status in UNKNOWN]
            if not unknown:
                break
            time.sleep(PAUSE_SECONDS)
            repeated = [replace(made[place], tries=made[place].tries + 1) for place in unknown]
            for place, call in zip(unknown, self.at_once(repeated), strict=True):
                made[place] = call
        return made

    def at_once(self, calls: list[Call]) -> list[Call]:
        """Make calls once, which are all in flight before the first response is read."""
        with contextlib.ExitStack() as opened:
            try:
                begun = [opened.enter_context(self._begun(call)) for call in calls]
                # A request counts from its last byte, and these are sent within microseconds.
                for connection, call in zip(begun, calls, strict=True):
                    connection.send(body_of(call)[-1:])
            except NO_RESPONSE:
                return calls
            return [read(*pair) for pair in zip(begun, calls, strict=True)]

    def lose(self, call: Call) -> None:
        """Make a call, and throw its response away unread once it has arrived."""
        with contextlib.suppress(*NO_RESPONSE), self._begun(call) as connection:
            connection.send(body_of(call)[-1:])
            select.select([connection.sock], [], [], SECONDS)

    @contextlib.contextmanager
    def _begun(self, call: Call) -> Iterator[http.client.HTTPConnection]:
        """A connection on which all of a request is sent but the last byte of its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        body = body_of(call)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Accept-Language": self.language,
            "Idempotency-Key": call.key,
        }
        if self.credentials:
            headers["Authorization"] = f"Bearer {self.credentials}"
        with contextlib.closing(connection):
            connection.putrequest(call.method, call.path)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body[:-1])
            yield connection


def body_of(call: Call) -> bytes:
    return json.dumps(call.sent).encode()


def read(connection: http.client.HTTPConnection, call: Call) -> Call:
    """The call with its response, if there is one."""
    try:
        response = connection.getresponse()
        received = json.loads(response.read())
    except (*NO_RESPONSE, ValueError):
        return call
    wait = int(response.headers.get("Retry-After", 0))
    return replace(call, status=response.status, received=received, wait=wait)
