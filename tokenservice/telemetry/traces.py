"""Whether calls are traced: where the environment names a collector, and the extra is installed.

Where they are not, nothing of OpenTelemetry is imported. Its variables are those of its
specification, and no settings of this service: docs/traces.md.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

PROTOCOL = "http/protobuf"
PACKAGE = "opentelemetry"


def variable(name: str) -> str:
    """A variable of the exporter: the one for traces alone, or the one for all signals."""
    alone = os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "")
    return (alone or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")).strip()


def is_asked_for() -> bool:
    """Whether a collector is named, and traces are not turned off."""
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = os.environ.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    return bool(variable("ENDPOINT")) and "otlp" in exporters and not is_disabled


def hindrance() -> str:
    """The reason for which traces are off although they are asked for, or ""."""
    if not is_asked_for():
        return ""
    if variable("PROTOCOL") not in ("", PROTOCOL):
        return f"Traces are off: of the protocols of OTLP there is {PROTOCOL} alone."
    if imported("exporting") is None:
        return "Traces are off: the extra is missing. Install requirements/traces.lock."
    return ""


def module(name: str) -> ModuleType | None:
    """A module of this room that imports OpenTelemetry; None where calls are not traced."""
    return imported(name) if is_asked_for() and not hindrance() else None


def imported(name: str) -> ModuleType | None:
    """A module of this room, or None where a package of OpenTelemetry is missing."""
    try:
        return importlib.import_module(f"tokenservice.telemetry.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != PACKAGE:
            raise
        return None
