"""The direct door before a test client: requests as the worker reads them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from tokenservice.auth.door import Door
from tokenservice.onetime import nearness
from tokenservice.server.request import Request
from tokenservice.web.problems import Problem


def request_of(environ: WSGIEnvironment) -> Request:
    """The request of a WSGI environment; its body can be read again."""
    fields = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            fields[name] = environ[name]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    target, query = environ["REQUEST_URI"], environ["QUERY_STRING"]
    request = Request(
        environ["REQUEST_METHOD"],
        (f"{target.partition('?')[0]}?{query}" if query else target).encode("latin-1"),
        "1.1",
        [
            (name.lower().replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in fields.items()
        ],
        (environ.get("REMOTE_ADDR", "127.0.0.1"), 1),
    )
    request.body = body
    return request


class Doors:
    """The WSGI application of an app: what is quick goes through the direct door.

    :ivar passed: the calls by the door that they went through
    """

    def __init__(self, app: Flask) -> None:
        self.passed: Counter[str] = Counter()
        self._door: Door = app.extensions["Door"]
        self._flask = app.wsgi_app
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = request_of(environ)
        if request.path.startswith(b"/token"):
            self._meet(environ)
        if (entered := self._door.enter(request)) is None:
            self.passed["flask"] += 1
            return self._flask(environ, start_response)
        self.passed["direct"] += 1
        found = self._door.answer(entered, waits=True)
        assert found
        status, headers, body = found
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def _meet(self, environ: WSGIEnvironment) -> None:
        """Make the caller known, as an earlier call of the same one does."""
        known = {"HTTP_AUTHORIZATION": environ.get("HTTP_AUTHORIZATION", "")}
        with (
            suppress(Problem, SQLAlchemyError),
            self._app.test_request_context("/auth/me", environ_overrides=known),
        ):
            self._app.preprocess_request()


def open_door(app: Flask) -> Doors:
    """Let the clients of ``app`` come through the direct door."""
    doors = Doors(app)
    app.wsgi_app = doors  # type: ignore[method-assign]
    return doors


@contextmanager
def always_near() -> Iterator[None]:
    """Take every Redis for near: shared machines stall, and near has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("NEAR_SECONDS", "SLOW_SECONDS", "RECENT_SECONDS"):
            patch.setattr(nearness, bound, float("inf"))
        yield
