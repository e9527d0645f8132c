"""The service with a door that a test can see through."""

from __future__ import annotations

import time

from tokenservice.server.request import Request
from tokenservice.server.wsgi import Headers
from wsgi import app


class Door:
    """``/sleep?S`` takes S seconds: in the loop, unless it is a POST."""

    def enter(self, request: Request) -> Request | None:
        return request if request.path == b"/sleep" else None

    def is_quick(self, entered: Request) -> bool:
        return entered.method != "POST"

    def answer(self, entered: Request, *, waits: bool) -> tuple[int, Headers, bytes]:
        time.sleep(float(entered.query))
        return 200, [("X-Request-ID", "slept")], entered.query

    def is_hashing(self, request: Request) -> bool:
        return request.path == b"/auth/login"


app.extensions["Door"] = Door()
