"""The limits of the service itself."""

from __future__ import annotations

import pytest

from tests.stage.patience import wait_longer


@pytest.fixture(scope="module", autouse=True)
def patience() -> None:
    """As patient as the service is."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """More patient, for a test of another limit."""
    wait_longer(monkeypatch)
