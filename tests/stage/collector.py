"""A receiver of OTLP on loopback, which keeps what it gets."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.stage.waiting import until


@dataclass
class Received:
    """A span, with the ids in hexadecimal and the attributes of its resource beside its own."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    is_error: bool
    start: int
    end: int


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def received(body: bytes) -> list[Received]:
    """The spans of one request of an exporter."""
    return [
        Received(
            span.name,
            Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            values(span.attributes),
            values(of_resource.resource.attributes),
            span.status.code == Status.STATUS_CODE_ERROR,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
        )
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


class Collector:
    """The receiver; a context manager.

    :ivar spans: those received
    :ivar raw: each byte of the requests, their heads included
    :ivar requests: the number of requests
    :ivar status: that of its responses
    :ivar passes: clear it to let requests hang until it is set again
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.raw = b""
        self.requests = 0
        self.status = 200
        self.passes = threading.Event()
        self.passes.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector.requests += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.passes.wait()
                collector.raw += self.requestline.encode() + bytes(self.headers) + body
                if collector.status == 200:
                    collector.spans += received(body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.passes.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, trace_id: str, least: int = 1) -> list[Received]:
        """The spans of a trace, by their start, once there are so many and its last one.

        A batch may end between two spans of a call, whose own ends last.
        """

        def is_whole() -> bool:
            kinds = [span.kind for span in self.spans if span.trace_id == trace_id]
            return len(kinds) >= least and "SERVER" in kinds

        until(is_whole)
        return sorted(
            (span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start
        )
