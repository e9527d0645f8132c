"""A client of the service that may get no response, as on any network."""

from __future__ import annotations

import http.client
import json
import secrets
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stage.people import Person
from tests.stage.racing import Response

#: How often a careful caller repeats a call before it gives up, and its pause before most repeats.
ATTEMPTS, PAUSE_SECONDS = 200, 0.05


class Caller:
    """A caller with a persistent connection to the service, or to a proxy before it.

    :param timeout: the longest wait for a response, in seconds
    """

    def __init__(self, port: int, person: Person, timeout: float) -> None:
        self._person = person
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def post(self, path: str, body: dict[str, Any], key: str = "") -> Response | None:
        """Call once; None without a response."""
        headers = {**self._person.headers, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        try:
            leave_closed(self._connection)
            self._connection.request("POST", path, json.dumps(body), headers)
            response = self._connection.getresponse()
            return Response(response.status, json.loads(response.read()))
        except (OSError, http.client.HTTPException):
            self.close()
            return None

    def insist(self, path: str, body: dict[str, Any], *, keyed: bool = True) -> Response:
        """Repeat a call, under one key, until a response tells the outcome.

        :param keyed: False to repeat without a key, for a call that changes nothing
        """
        key = secrets.token_urlsafe(12) if keyed else ""
        for attempt in range(ATTEMPTS):
            response = self.post(path, body, key)
            if response and response.status != 503:
                return response
            if attempt:  # It repeats a lost reply at once.
                time.sleep(PAUSE_SECONDS)
        raise AssertionError(f"no response to {ATTEMPTS} calls of {path}")

    def close(self) -> None:
        self._connection.close()


def leave_closed(connection: http.client.HTTPConnection) -> None:
    """Make a connection anew that the server has closed because it was idle."""
    # Readable between two requests.
    if connection.sock and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
        connection.connect()


@contextmanager
def calling(port: int, *people: Person, timeout: float = 10) -> Iterator[list[Caller]]:
    callers = [Caller(port, person, timeout) for person in people]
    try:
        yield callers
    finally:
        for caller in callers:
            caller.close()
