"""JSON lines on standard error: one for each answer, and whatever the libraries have to say.

An answer's line carries the request id, the caller, the endpoint, the status, the time taken
and one event that the view names with :func:`note` (``token.created``, ``auth.login_failed``).
One line an answer means that counting lines counts answers.
"""

from __future__ import annotations

import json
import logging
import logging.config
import re
import secrets
import time
from typing import Any

import structlog
from flask import Flask, Response, g, has_request_context, request
from structlog.typing import EventDict, Processor

from tokenservice.telemetry.stderr import stderr

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
QUIET = frozenset({"ops.healthz", "ops.readyz", "ops.metrics"})

SECRET_NAMES = frozenset(
    {"password", "token", "reservation", "access_token", "authorization", "secret_key"}
)
SECRET_TEXTS = re.compile(
    r"ot[tr]_[0-9A-Za-z]{20,}"  # a one-time token or a reservation, whole or cut
    r"|eyJ[\w-]{10,}\.[\w-]+\.?[\w-]*"  # a JWT
    r"|(?<=://)[^\s/@]*:[^\s@]*(?=@)"  # the credentials of a connection string
    r"|(?<=password=)[^\s&\"]+"  # a password among its options
)

#: What Postgres quotes of a statement or a row: a name, an address, a password's hash.
QUOTED = re.compile(r"^(DETAIL|CONTEXT|LINE \d+):.*$", re.MULTILINE)

log = structlog.get_logger()


def redact(_: Any, __: str, event: EventDict) -> EventDict:
    """Blank what its name says must never be read in a log (ASVS 5.0 V16.2.5)."""
    for name in SECRET_NAMES & event.keys():
        event[name] = "[redacted]"
    return event


def leave_out_quotes(_: Any, __: str, event: EventDict) -> EventDict:
    """Cut the quotes out of an exception's text: ``hide_parameters`` does not reach that far."""
    if "exception" in event:
        event["exception"] = QUOTED.sub(r"\1: [redacted]", event["exception"])
    return event


def render(_: Any, __: str, event: EventDict) -> str:
    """Write a line, and blank in it what looks like a secret, whoever put it there."""
    return SECRET_TEXTS.sub("[redacted]", ENCODER.encode(event))


def name_request(_: Any, __: str, event: EventDict) -> EventDict:
    """Say which request a line is about, whoever writes it."""
    if has_request_context():
        event["request_id"] = request_id()
    return event


# Made once: json.dumps makes one for each call that is not all defaults.
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
    """Describe standard logging so that libraries and gunicorn write the same lines."""
    destination = {"handlers": ["lines"], "level": level.upper()}
    # At "debug" it writes down the head of each request that was cut short, credentials and all.
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
            # Each answer has its line already.
            "gunicorn.access": {"handlers": [], "propagate": False},
            # Alembic and the limiter tell at "info" what the answer's line tells too.
            "alembic": {"level": "WARNING"},
            "flask-limiter": {"level": "ERROR"},
        },
    }


def configure(level: str) -> None:
    logging.config.dictConfig(dict_config(level))
    logging.captureWarnings(True)  # They would be written to standard error as text, and wait.
    structlog.configure(
        processors=[*SHARED, *RENDER],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stderr),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def note(event: str, **facts: Any) -> None:
    """Name what this request did; the answer's line says so."""
    g.event = event
    told = {name: value for name, value in facts.items() if value not in (None, "")}
    g.facts = {**g.get("facts", {}), **told}


def request_id() -> str:
    """Give this request's id: the caller's if it is sane, else its trace's, else a new one."""
    found: str | None = g.get("request_id")
    if found is None:
        given = request.environ.get("HTTP_X_REQUEST_ID", "")
        is_sane = REQUEST_ID.fullmatch(given) and not SECRET_TEXTS.search(given)
        found = given if is_sane else trace_id() or secrets.token_hex(16)
        g.request_id = found
    return found


def trace_id() -> str | None:
    """Give the trace that W3C ``traceparent`` names, if it is well formed."""
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
        if asked.endpoint in QUIET and status < 400:
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
