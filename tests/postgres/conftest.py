"""The limits of the service itself."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def patience() -> None:
    """As patient as the service is."""
