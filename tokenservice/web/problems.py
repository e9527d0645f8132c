"""The one error shape: every error of every library as problem+json (RFC 9457).

``code`` is stable; clients switch on it. A problem carries facts that the client may know; the log
has the details. A domain registers its texts and its exceptions here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Flask, Response, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from tokenservice.extensions import add, part
from tokenservice.postgres.breaker import is_outage
from tokenservice.telemetry import logs
from tokenservice.telemetry.calls import call
from tokenservice.telemetry.failures import kind
from tokenservice.web import texts
from tokenservice.web.responses import ENCODER, PlainResponse, written

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"
RETRY_SOON = {"Retry-After": "1"}
HTTP_CODES = {
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    500: "internal_error",
}


class Problem(Exception):
    """An error response.

    :param code: a registered code, see :mod:`tokenservice.web.texts`
    :param errors: the mistakes of each field, in English
    :param headers: more response headers
    :param facts: more members of the response (RFC 9457 section 3.2)
    """

    def __init__(
        self,
        code: str,
        *,
        errors: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors
        self.headers = headers or {}
        self.facts = facts


Failure = TypeVar("Failure", bound=Exception)


class Explanations:
    """The problem of each kind of exception, as the domains explain them."""

    def __init__(self) -> None:
        self._by_kind: dict[type[Exception], Callable[[Any], Problem]] = {}

    def add(self, kind: type[Failure], explain: Callable[[Failure], Problem]) -> None:
        self._by_kind[kind] = explain

    def __call__(self, error: Exception) -> Problem:
        if isinstance(error, Problem):
            return error
        kind = next(kind for kind in type(error).__mro__ if kind in self._by_kind)
        return self._by_kind[kind](error)


explanations = part(Explanations)


def describe(problem: Problem, status: int | None = None) -> PlainResponse:
    """Write ``problem`` in the language that the call prefers, and name it in the log."""
    asked, language = call(), texts.language()
    message = texts.catalogue.problems[problem.code]
    title, detail = message.text(language)
    status = status or message.status
    body: dict[str, Any] = {
        "type": asked.given.get("SCRIPT_NAME", "").rstrip("/") + TYPE_PREFIX + problem.code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": problem.code,
        "request_id": logs.request_id(),
        **problem.facts,
    }
    if problem.errors is not None:
        body["errors"] = texts.field_errors(problem.errors, language)
    response = written(status, body, MEDIA_TYPE, ENCODER)
    response.headers.extend(problem.headers.items())
    response.headers.extend(texts.spoken(language))
    if status == 401:
        # RFC 6750 section 3: name the error only where credentials were sent.
        sent = problem.code.startswith(("access_token", "key_"))
        challenge = 'Bearer error="invalid_token"' if sent else "Bearer"
        response.headers.append(("WWW-Authenticate", challenge))
    logs.note(asked.event or "http.refused", code=problem.code)
    return response


def respond(problem: Problem, status: int | None = None) -> Response:
    """The same for Flask."""
    plain = describe(problem, status)
    return Response(plain.body, plain.status, plain.headers)


def of_http(error: HTTPException) -> Problem:
    status = error.code or 500
    code = HTTP_CODES.get(status, "internal_error" if status >= 500 else "bad_request")
    fields = getattr(error, "data", {}).get("messages", {})
    # webargs files the errors of a body under the part of the request that it read.
    return Problem(code, errors=next(iter(fields.values())) if fields else None)


def on_http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error  # A redirect is an HTTPException too.
    response = respond(of_http(error), error.code)
    headers = error.get_headers(request.environ)
    response.headers.extend([pair for pair in headers if pair[0] != "Content-Type"])
    return response


def of_database(error: SQLAlchemyError) -> Problem:
    if not is_outage(error):
        return of_unexpected(error)
    logs.note("database.unavailable", why=kind(error))
    return Problem("database_unavailable", headers=RETRY_SOON)


def of_unexpected(error: Exception) -> Problem:
    logs.log.error("error.unexpected", exc_info=error)
    return Problem("internal_error")


def on_unexpected(error: Exception) -> Response:
    return respond(of_unexpected(error))


def explain(app: Flask, kind: type[Failure], problem_of: Callable[[Failure], Problem]) -> None:
    """Respond to exceptions of ``kind`` with the problem that ``problem_of`` makes of each."""
    found: Explanations = app.extensions[Explanations.__name__]
    found.add(kind, problem_of)
    app.register_error_handler(kind, lambda error: respond(problem_of(error)))


def init_app(app: Flask) -> None:
    add(app, Explanations())
    app.register_error_handler(Problem, respond)
    app.register_error_handler(HTTPException, on_http)
    explain(app, SQLAlchemyError, of_database)
    explain(app, Exception, of_unexpected)
