"""The one error shape: every error of every library as problem+json (RFC 9457).

``code`` is stable; clients switch on it. A problem carries facts that the client may know; the log
has the details. A domain registers its texts and its exceptions here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from tokenservice.postgres.breaker import is_outage
from tokenservice.telemetry import logs
from tokenservice.telemetry.failures import kind
from tokenservice.web import texts

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


def respond(problem: Problem, status: int | None = None) -> Response:
    """Write ``problem`` in the language that the request prefers."""
    language = texts.language()
    message = texts.catalogue.problems[problem.code]
    title, detail = message.text(language)
    status = status or message.status
    body: dict[str, Any] = {
        "type": request.script_root + TYPE_PREFIX + problem.code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": problem.code,
        "request_id": logs.request_id(),
        **problem.facts,
    }
    if problem.errors is not None:
        body["errors"] = texts.field_errors(problem.errors, language)
    response = Response(
        json.dumps(body, ensure_ascii=False) + "\n",
        status,
        mimetype=MEDIA_TYPE,
    )
    response.headers.update(problem.headers)
    response.headers["Content-Language"] = language
    response.vary.add("Accept-Language")
    if status == 401:
        # RFC 6750 section 3: name the error only where credentials were sent.
        sent = problem.code.startswith("access_token")
        response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if sent else "Bearer"
    if "event" not in g:
        logs.note("http.refused")
    logs.note(g.event, code=problem.code)
    return response


def on_http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error  # A redirect is an HTTPException too.
    data = getattr(error, "data", {})
    code = HTTP_CODES.get(error.code, "internal_error" if error.code >= 500 else "bad_request")
    if "not_json" in data:
        code = "not_json"
    fields = data.get("messages", {})
    # webargs files the errors of a body under the part of the request that it read.
    problem = Problem(code, errors=next(iter(fields.values())) if fields else None)
    response = respond(problem, error.code)
    headers = error.get_headers(request.environ)
    response.headers.extend([pair for pair in headers if pair[0] != "Content-Type"])
    return response


def on_database(error: SQLAlchemyError) -> Response:
    if not is_outage(error):
        return on_unexpected(error)
    logs.note("database.unavailable", why=kind(error))
    return respond(Problem("database_unavailable", headers=RETRY_SOON))


def on_unexpected(error: Exception) -> Response:
    logs.log.error("error.unexpected", exc_info=error)
    return respond(Problem("internal_error"))


def init_app(app: Flask) -> None:
    app.register_error_handler(Problem, respond)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(SQLAlchemyError, on_database)
    app.register_error_handler(Exception, on_unexpected)
