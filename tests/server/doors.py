"""The service with a door that a test can see through."""

from __future__ import annotations

import time

from tokenservice.server.request import Request
from tokenservice.server.wsgi import Headers
from wsgi import app


class Door:
    """Token calls are quick. ``/sleep?S`` takes S seconds: in the loop, unless it is a POST."""

    def is_quick(self, request: Request) -> bool:
        return request.path.startswith(b"/token/") or (
            request.path == b"/sleep" and request.method != "POST"
        )

    def answer(self, request: Request) -> tuple[int, Headers, bytes] | None:
        if request.path != b"/sleep":
            return None
        time.sleep(float(request.query))
        return 200, [("X-Request-ID", "slept")], request.query


app.extensions["Door"] = Door()
