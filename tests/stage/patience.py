"""More patience for Postgres than the service has, because shared machines stall."""

from __future__ import annotations

import pytest

from tokenservice.postgres import breaker, timeouts


def wait_longer(patch: pytest.MonkeyPatch) -> None:
    """Let the apps of this process wait longer; the limits of the server are left as they are."""
    patch.setattr(timeouts, "REQUEST_SECONDS", 9.0)
    patch.setattr(timeouts, "PING_SECONDS", 4.0)
    patch.setattr(breaker, "STANDSTILL_SECONDS", 10.0)
