"""The export of spans: in each worker one thread sends them to the collector, in batches.

The environment names the collector, the sampler and the resource, by the variables of
OpenTelemetry. No call waits for the collector. While it hangs or refuses, the oldest spans are
dropped, and one line a minute says so.
"""

from __future__ import annotations

import logging
import threading
import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tokenservice.telemetry import logs
from tokenservice.telemetry.failures import kind

#: The name of the service where the environment gives none.
NAME = "token-service"
#: The longest wait of an ending worker for its last spans.
LAST_SECONDS = 1
#: The time between two lines about failures, and the most of a reason that one holds.
REPORT_SECONDS, LONGEST_REASON = 60, 200


class Reports(logging.Handler):
    """Lines about failures of the export: one a minute, in place of one or more for each batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._silent_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() < self._silent_until:
            return
        self._silent_until = time.monotonic() + REPORT_SECONDS
        args = record.args if isinstance(record.args, tuple) else ()
        errors = [arg for arg in args if isinstance(arg, Exception)]
        # The text of an error holds the address of the collector, which may hold a key.
        why = kind(errors[0]) if errors else record.getMessage()[:LONGEST_REASON]
        logs.log.warning("traces.not_exported", why=why)


def start() -> None:
    """Export the spans of this process from now on. A fork of it would export none."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: NAME}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    own = logging.getLogger("opentelemetry")
    own.propagate = False
    own.addHandler(Reports())
    # Its warning about a full queue would come for each span.
    logging.getLogger("opentelemetry.sdk").setLevel(logging.ERROR)
    # At "debug" it writes the address of each batch.
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def end() -> None:
    """Send the last spans, and wait for no more than a second."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(LAST_SECONDS)
