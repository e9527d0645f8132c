"""Waiting for something that must come about."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that must come about in about so many seconds of this process's life.

    For as long as the process itself is stopped, nothing else need come about.
    """
    for _ in range(round(seconds / 0.05)):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")
