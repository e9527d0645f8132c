"""A caller of the service who, like any on a network, may get no answer."""

from __future__ import annotations

import http.client
import json
import secrets
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stage.people import Person
from tests.stage.racing import Answer

#: How often a careful caller repeats a call before it gives up.
ATTEMPTS = 20


class Caller:
    """Someone with a kept connection to the service, or to what stands before it.

    :param timeout: how long to wait for an answer, in seconds
    """

    def __init__(self, port: int, person: Person, timeout: float) -> None:
        self._person = person
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def post(self, path: str, body: dict[str, Any], key: str = "") -> Answer | None:
        """Call once; None if no answer came."""
        headers = {**self._person.headers, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        self._leave_what_was_left()
        try:
            self._connection.request("POST", path, json.dumps(body), headers)
            response = self._connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        except (OSError, http.client.HTTPException):
            self.close()
            return None

    def insist(self, path: str, body: dict[str, Any], *, keyed: bool = True) -> Answer:
        """Repeat a call, under one key, until there is an answer that tells the outcome.

        :param keyed: False to repeat it as another call each time, for one that changes nothing
        """
        key = secrets.token_urlsafe(12) if keyed else ""
        for _ in range(ATTEMPTS):
            answer = self.post(path, body, key)
            if answer and answer.status != 503:
                return answer
        raise AssertionError(f"no answer to {ATTEMPTS} calls of {path}")

    def _leave_what_was_left(self) -> None:
        # Whatever can be read between two requests is that the server hung up on an idle caller.
        idle = self._connection.sock
        if idle and select.select([idle], [], [], 0)[0]:
            self.close()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def calling(port: int, *people: Person, timeout: float = 10) -> Iterator[list[Caller]]:
    callers = [Caller(port, person, timeout) for person in people]
    try:
        yield callers
    finally:
        for caller in callers:
            caller.close()
