"""The spans of a call and of its stores, by the API of OpenTelemetry.

Names and attributes are those of its conventions. None holds an address, a correo, a query, the
text of a statement or a secret. A store has spans within the span of a call alone.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from werkzeug.routing import Map

from tokenservice.telemetry import metrics
from tokenservice.telemetry.calls import Call, current
from tokenservice.telemetry.failures import kind

TRACER = trace.get_tracer("token_service")
PARENTS = TraceContextTextMapPropagator()
#: The methods that may be named. Any other is a text of the client.
METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
#: The first word of a statement, and its first table.
OPERATION, TABLE = re.compile(r"\w+"), re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)")


class CallSpan:
    """The span of a call, until it has its response.

    :ivar trace_id: in hexadecimal
    :ivar span_id: in hexadecimal; "" where the trace is not sampled, and so holds no such span
    :ivar within: the context of the spans in it; None where the trace is not sampled
    """

    __slots__ = ("_span", "span_id", "trace_id", "within")

    def __init__(self, span: Span) -> None:
        self._span = span
        ids, is_sampled = span.get_span_context(), span.is_recording()
        self.trace_id = trace.format_trace_id(ids.trace_id)
        self.span_id = trace.format_span_id(ids.span_id) if is_sampled else ""
        self.within = trace.set_span_in_context(span, Context()) if is_sampled else None

    def end(self, answered: Call, status: int) -> None:
        if self.within is None:
            return
        code = answered.facts.get("code")
        facts = {
            "http.response.status_code": status,
            "token_service.problem": code,
            "token_service.token_id": answered.facts.get("token_id"),
        }
        self._span.set_attributes({name: value for name, value in facts.items() if value})
        if status >= 500:
            fail(self._span, code or str(status))
        self._span.end()


class Calls:
    """Begins the span of each call, except the probes and other calls without a line in the log.

    :param rules: the rules of all views, read at the first call
    """

    def __init__(self, rules: Map, trusted_proxies: int) -> None:
        self._rules, self._hops = rules, trusted_proxies

    def begin(self, asked: Call) -> None:
        """Begin the span of a call, within the trace of its ``traceparent`` if it has one."""
        if asked.is_quiet:
            return
        method = asked.method if asked.method in METHODS else "_OTHER"
        route = self._routes.get(asked.endpoint or "")
        facts = {"http.request.method": method, "url.scheme": self._scheme(asked)}
        name = "HTTP" if method == "_OTHER" else method
        if route:
            facts["http.route"] = route
            name = f"{name} {route}"
        given = {"traceparent": asked.given.get("HTTP_TRACEPARENT", "")}
        parent = PARENTS.extract(given, Context())
        span = TRACER.start_span(name, parent, SpanKind.SERVER, facts)
        if span.get_span_context().is_valid:  # Where nothing exports there is no span.
            asked.span = CallSpan(span)

    @functools.cached_property
    def _routes(self) -> dict[str, str]:
        return {rule.endpoint: rule.rule for rule in self._rules.iter_rules()}

    def _scheme(self, asked: Call) -> str:
        """The scheme that the outermost trusted proxy tells, as ProxyFix reads it."""
        told = asked.given.get("HTTP_X_FORWARDED_PROTO", "").split(",")
        if self._hops and len(told) >= self._hops:
            scheme = told[-self._hops].strip()
        else:
            scheme = asked.given["wsgi.url_scheme"]
        return "https" if scheme == "https" else "http"


def child(system: str, operation: str, name: str, **facts: str) -> Span | None:
    """Begin the span of a call to a store; None outside of a sampled call."""
    asked = current.get()
    if asked is None or asked.span is None or asked.span.within is None:
        return None
    facts = {"db.system.name": system, "db.operation.name": operation, **facts}
    return TRACER.start_span(name, asked.span.within, SpanKind.CLIENT, facts)


def fail(span: Span, why: str) -> None:
    """Mark a failure by its kind. The text of an error may hold what no span may."""
    span.set_attribute("error.type", why)
    span.set_status(StatusCode.ERROR)


class RedisCall(metrics.RedisCall):
    """A context manager that times one call to Redis, and traces it."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self._call = call

    def __enter__(self) -> None:
        self._span = child("redis", self._call, self._call)
        super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        if self._span:
            if raised[1]:
                fail(self._span, kind(raised[1]))
            self._span.end()


@functools.lru_cache(maxsize=256)
def described(sql: str) -> tuple[str, str]:
    """The operation of a statement, and its first table or ""."""
    operation, table = OPERATION.search(sql), TABLE.search(sql)
    return operation[0].upper() if operation else "", table[1] if table else ""


def watch_engine(engine: Engine) -> None:
    """Trace every query of ``engine``, without its text."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(conn: Any, cursor: Any, sql: str, params: Any, context: Any, *_: Any) -> None:
        operation, table = described(sql)
        facts = {"db.collection.name": table} if table else {}
        context.span = child("postgresql", operation, f"{operation} {table}".strip(), **facts)

    @event.listens_for(engine, "after_cursor_execute")
    def end(conn: Any, cursor: Any, sql: str, params: Any, context: Any, *_: Any) -> None:
        if context.span:
            context.span.end()

    @event.listens_for(engine, "handle_error")
    def end_in_error(error: ExceptionContext) -> None:
        span = getattr(error.execution_context, "span", None)
        if span and span.is_recording():
            fail(span, kind(error.original_exception))
            span.end()
