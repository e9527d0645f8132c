"""Every error of every library becomes one shape: problem+json (RFC 9457).

``code`` is stable and is what clients switch on. A problem says what the client may know;
what happened in detail goes to the log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request
from flask_limiter import RateLimitExceeded
from psycopg2.errors import ReadOnlySqlTransaction
from sqlalchemy import exc as database
from werkzeug.exceptions import HTTPException

from tokenservice.auth.passwords import TooManyWaiting
from tokenservice.onetime import errors as onetime
from tokenservice.telemetry import logs, metrics
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
#: Where a token is shown to be used: a used one is a replay there, and a mistake elsewhere.
PRESENTING = ("token.validate", "lease.reserve", "lease.commit")
ONETIME_CODES: Mapping[type[onetime.OneTimeError], str] = {
    onetime.TokenMalformed: "token_malformed",
    onetime.TokenUnknown: "token_unknown",
    onetime.TokenNotForCaller: "token_not_for_caller",
    onetime.TokenMismatch: "token_mismatch",
    onetime.TokenAlreadyUsed: "token_already_used",
    onetime.TokenReserved: "token_reserved",
    onetime.TokenExpired: "token_expired",
    onetime.TokenRevoked: "token_revoked",
    onetime.TokenLost: "token_lost",
    onetime.LeaseEnded: "lease_ended",
    onetime.IdempotencyMismatch: "idempotency_mismatch",
    onetime.TooManyActive: "too_many_active",
    onetime.StoreUnavailable: "store_unavailable",
}


class Problem(Exception):
    """A refusal to answer with.

    :param code: a key of :data:`texts.PROBLEMS`
    :param errors: what is wrong with each field, in English
    :param headers: more response headers
    :param facts: more members of the answer (RFC 9457 section 3.2)
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
    title, detail = texts.problem_text(problem.code, language)
    status = status or texts.PROBLEMS[problem.code].status
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.code,
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
    # webargs files a body's errors under the part of the request that it read them from.
    problem = Problem(code, errors=next(iter(fields.values())) if fields else None)
    response = respond(problem, error.code)
    headers = error.get_headers(request.environ)
    response.headers.extend([pair for pair in headers if pair[0] != "Content-Type"])
    return response


def on_rate_limit(error: RateLimitExceeded) -> Response:
    # Retry-After and the RateLimit fields are added to every limited answer in limits.py.
    logs.note("limit.exceeded")
    return respond(Problem("rate_limited"))


def on_onetime(error: onetime.OneTimeError) -> Response:
    code = ONETIME_CODES[type(error)]
    if isinstance(error, onetime.StoreUnavailable):
        logs.note("store.unavailable", why=str(error))
        return respond(Problem(code, headers=RETRY_SOON))
    metrics.REFUSED.labels(code).inc()
    logs.note("token.refused", token_id=getattr(error, "token_id", None))
    match error:
        case onetime.TokenAlreadyUsed():
            if request.endpoint in PRESENTING:
                logs.note("token.replayed")
            return respond(Problem(code, consumed_at=error.consumed_at.isoformat()))
        case onetime.TokenMismatch():
            return respond(Problem(code, field=error.field))
        case onetime.TokenReserved() | onetime.TooManyActive():
            wait = max(1, math.ceil(error.seconds))
            return respond(Problem(code, headers={"Retry-After": str(wait)}))
    return respond(Problem(code))


def on_database(error: database.SQLAlchemyError) -> Response:
    if not is_outage(error):
        return on_unexpected(error)
    logs.note("database.unavailable", why=type(error).__name__)
    return respond(Problem("database_unavailable", headers=RETRY_SOON))


def is_outage(error: database.SQLAlchemyError) -> bool:
    """Tell a database that is away, slow or read-only from a mistake of ours."""
    if isinstance(
        error,
        database.TimeoutError | database.OperationalError | database.InterfaceError,
    ):
        return True
    return isinstance(error, database.DBAPIError) and (
        error.connection_invalidated or isinstance(error.orig, ReadOnlySqlTransaction)
    )


def on_unexpected(error: Exception) -> Response:
    logs.log.error("error.unexpected", exc_info=error)
    return respond(Problem("internal_error"))


def init_app(app: Flask) -> None:
    app.register_error_handler(Problem, respond)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(RateLimitExceeded, on_rate_limit)
    app.register_error_handler(onetime.OneTimeError, on_onetime)
    app.register_error_handler(database.SQLAlchemyError, on_database)
    app.register_error_handler(
        TooManyWaiting, lambda _: respond(Problem("busy", headers=RETRY_SOON))
    )
    app.register_error_handler(Exception, on_unexpected)
