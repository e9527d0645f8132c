"""The limits of the service itself."""

from __future__ import annotations

import pytest

from tokenservice.postgres import breaker, timeouts


@pytest.fixture(scope="module", autouse=True)
def patience() -> None:
    """As patient as the service is."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """More patient, for a test of another limit. Those of the server are its own."""
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 9.0)
    monkeypatch.setattr(timeouts, "PING_SECONDS", 4.0)
    monkeypatch.setattr(breaker, "STANDSTILL_SECONDS", 10.0)
