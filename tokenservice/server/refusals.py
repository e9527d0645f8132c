"""Problems for requests that the application does not see: malformed, overdue, or too many."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from flask import Flask
from gunicorn.http import errors as http

from tokenservice.server.framing import BodyTooLarge, Overdue
from tokenservice.server.request import Fields, Request
from tokenservice.server.wsgi import Answer
from tokenservice.telemetry import logs, metrics
from tokenservice.web.addresses import set_client
from tokenservice.web.problems import RETRY_SOON, Problem, on_unexpected, respond


class WaitedTooLong(Exception):
    """The request has waited for as long as its client would."""


#: Refusals with another status than 400.
STATUS: dict[type[Exception], int] = {
    Overdue: 408,
    BodyTooLarge: 413,
    http.LimitRequestLine: 414,
    http.ExpectationFailed: 417,
    http.LimitRequestHeaders: 431,
}
BUGS = (http.InvalidResponseHeader, http.InvalidResponseHeaderName)
CODE: dict[type[Exception], str] = {BodyTooLarge: "payload_too_large"}
#: The most languages and origins whose 503 is kept.
MOST_MADE = 64
#: Headers of a request that its refusal heeds.
HEEDED = (b"accept-language", b"origin", b"traceparent", b"x-forwarded-for", b"x-request-id")


def refusal(app: Flask, error: Exception, headers: Fields = (), peer: str = "") -> Answer:
    """The response to a request that is refused, or that met a bug.

    gunicorn would respond in HTML, and log the unreadable bytes: after a Content-Length that is too
    small, the rest of a body with the password in it. An unknown transfer coding is the client's
    mistake: with gunicorn's 501 any stranger could raise the alarm.

    :param headers: those of the request, as far as they are known
    :param peer: the address of its client, or of the last proxy
    """
    kind = type(error)
    heeded = [(name.decode(), text.decode("latin-1")) for name, text in headers if name in HEEDED]
    # There is no request: "*" is no address of the app.
    with app.test_request_context("*", method="-", headers=heeded):
        set_client(peer)
        app.preprocess_request()
        if isinstance(error, WaitedTooLong):
            logs.note("http.refused", why=kind.__name__)
            response = respond(Problem("busy", headers=RETRY_SOON))
        elif isinstance(error, http.ParseException) and kind not in BUGS:
            logs.note("http.refused", why=kind.__name__)
            response = respond(Problem(CODE.get(kind, "bad_request")), STATUS.get(kind, 400))
        else:
            response = on_unexpected(error)
        response = app.process_response(response)
    return Answer(response.status, list(response.headers), response.get_data())


class Shedding:
    """The 503 to requests that waited for too long.

    It must cost next to nothing, or the refusals would take the time of the rest. So it is made
    once for each language and origin, and the log gets one line a second with their number.
    """

    def __init__(self, refuse: Callable[[Exception, Fields], Answer]) -> None:
        self._refuse = refuse
        self._made: dict[tuple[bytes | None, bytes | None], tuple[str, Answer]] = {}
        self._unreported = 0

    def answer(self, request: Request) -> Answer:
        metrics.SHED.inc()
        given = (request.get(b"x-request-id") or b"").decode("latin-1")
        is_well_formed = logs.REQUEST_ID.fullmatch(given) and not logs.SECRET_TEXTS.search(given)
        request_id = given if is_well_formed else secrets.token_hex(16)
        own_id, made = self._like(request)
        return Answer(
            made.status,
            [(name, request_id if text == own_id else text) for name, text in made.headers],
            made.body.replace(own_id.encode(), request_id.encode()),
        )

    def _like(self, request: Request) -> tuple[str, Answer]:
        """A refusal in the language and for the origin of ``request``, and the id in it."""
        key = (request.get(b"accept-language"), request.get(b"origin"))
        if key in self._made:
            self._unreported += 1
            metrics.labelled(metrics.REQUESTS, "none", 503).inc()
            return self._made[key]
        if len(self._made) >= MOST_MADE:
            self._made.clear()
        own_id = secrets.token_hex(16)
        names = (b"accept-language", b"origin")
        known = [(name, text) for name, text in zip(names, key, strict=True) if text]
        made = self._refuse(WaitedTooLong(), [*known, (b"x-request-id", own_id.encode())])
        self._made[key] = own_id, made
        return own_id, made

    def report(self) -> None:
        """Log the number of refusals since the last report."""
        if self._unreported:
            logs.log.warning("http.refused", code="busy", count=self._unreported)
            self._unreported = 0
