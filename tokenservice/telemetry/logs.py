"""JSON lines on standard error: one for each response, and those of the libraries.

The line of a response carries the request id, the caller, the endpoint, the status, the time taken
and one event that the view names with :func:`note` (``token.created``, ``auth.login_failed``).
Counting lines counts responses.
"""

from __future__ import annotations

import json
import logging
import logging.config
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, current_app, g, has_request_context, request
from structlog.typing import EventDict, Processor

from tokenservice.telemetry.stderr import stderr

View = TypeVar("View", bound=Callable[..., Any])

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

SECRET_NAMES = frozenset(
    {"password", "token", "reservation", "access_token", "authorization", "secret_key"}
)
SECRET_TEXTS = re.compile(
    r"ot[tr]_[0-9A-Za-z]{20,}"  # a one-time token or a reservation, whole or cut
    r"|eyJ[\w-]{10,}\.[\w-]+\.?[\w-]*"  # a JWT
    r"|(?<=://)[^\s/@]*:[^\s@]*(?=@)"  # the credentials of a connection string
    r"|(?<=password=)[^\s&\"]+"  # a password among its options
)

#: Quotes of a statement or a row in an error of Postgres: a name, an address, a password hash.
QUOTED = re.compile(r"^(DETAIL|CONTEXT|LINE \d+):.*$", re.MULTILINE)

log = structlog.get_logger()


def redact(_: Any, __: str, event: EventDict) -> EventDict:
    """Blank the values whose names are secret (ASVS 5.0 V16.2.5)."""
    for name in SECRET_NAMES & event.keys():
        event[name] = "[redacted]"
    return event


def leave_out_quotes(_: Any, __: str, event: EventDict) -> EventDict:
    """Cut the quotes out of an exception's text, which ``hide_parameters`` does not reach."""
    if "exception" in event:
        event["exception"] = QUOTED.sub(r"\1: [redacted]", event["exception"])
    return event


def render(_: Any, __: str, event: EventDict) -> str:
    """Write a line, and blank every text in it that has the shape of a secret."""
    return SECRET_TEXTS.sub("[redacted]", ENCODER.encode(event))


def name_request(_: Any, __: str, event: EventDict) -> EventDict:
    """Add the request id to every line of a request."""
    if has_request_context():
        event["request_id"] = request_id()
    return event


# Built once: json.dumps builds one per call unless all options are defaults.
ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)

SHARED: list[Processor] = [
    name_request,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    leave_out_quotes,
]
RENDER: list[Processor] = [redact, render]


def dict_config(level: str) -> dict[str, Any]:
    """The standard logging configuration: libraries and gunicorn write the same lines."""
    destination = {"handlers": ["lines"], "level": level.upper()}
    # At "debug" gunicorn logs the head of each incomplete request, credentials included.
    gunicorn = "INFO" if level == "debug" else level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *RENDER,
                ],
            }
        },
        "handlers": {
            "lines": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "stream": stderr,
            }
        },
        "root": destination,
        "loggers": {
            "gunicorn.error": {**destination, "level": gunicorn, "propagate": False},
            # Each response has its line already.
            "gunicorn.access": {"handlers": [], "propagate": False},
            # At "info" Alembic and the limiter repeat the line of the response.
            "alembic": {"level": "WARNING"},
            "flask-limiter": {"level": "ERROR"},
        },
    }


def configure(level: str) -> None:
    logging.config.dictConfig(dict_config(level))
    logging.captureWarnings(True)  # Else they would block on standard error, as text.
    structlog.configure(
        processors=[*SHARED, *RENDER],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stderr),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def quiet(view: View) -> View:
    """Log no line for a view's responses below 400."""
    view.is_quiet = True  # type: ignore[attr-defined]
    return view


def note(event: str, **facts: Any) -> None:
    """Set the event of this request's line, and add facts to it."""
    g.event = event
    known = {name: value for name, value in facts.items() if value not in (None, "")}
    g.facts = {**g.get("facts", {}), **known}


def request_id() -> str:
    """This request's id: the client's if well formed, else its trace's, else a new one."""
    found: str | None = g.get("request_id")
    if found is None:
        given = request.environ.get("HTTP_X_REQUEST_ID", "")
        is_well_formed = REQUEST_ID.fullmatch(given) and not SECRET_TEXTS.search(given)
        found = given if is_well_formed else trace_id() or secrets.token_hex(16)
        g.request_id = found
    return found


def trace_id() -> str | None:
    """The trace id of a well-formed W3C ``traceparent``."""
    found = TRACEPARENT.fullmatch(request.environ.get("HTTP_TRACEPARENT", ""))
    return found[1] if found and set(found[1]) != {"0"} else None


def init_app(app: Flask) -> None:
    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.add("X-Request-ID", request_id())
        asked, known = request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]
        status = response.status_code
        view = current_app.view_functions.get(asked.endpoint)
        if status < 400 and hasattr(view, "is_quiet"):
            return response
        facts = dict(known.get("facts", {}))
        if caller_id := known.get("caller_id"):
            facts["user_id"] = caller_id
        if trace := trace_id():
            facts["trace_id"] = trace
        write = log.error if status >= 500 else log.info
        write(
            known.get("event", "http.answered"),
            method=asked.method,
            endpoint=asked.endpoint,
            status=status,
            ms=round((time.perf_counter() - known.started) * 1000, 2),
            **facts,
        )
        return response
