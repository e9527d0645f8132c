"""The lines that an app of this process writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from tokenservice.telemetry.lines import Lines

T = TypeVar("T")


def copied(monkeypatch: pytest.MonkeyPatch, form: Callable[[str], T]) -> list[T]:
    """The lines of the log and of the audit trail from now on, each in this form."""
    lines: list[T] = []

    def copying(write: Callable[[Lines, str], None]) -> Callable[[Lines, str], None]:
        def copy(stream: Lines, text: str) -> None:
            lines.extend(form(line) for line in text.splitlines())
            write(stream, text)

        return copy

    for name in ("write", "write_at_once"):
        monkeypatch.setattr(Lines, name, copying(getattr(Lines, name)))
    return lines
