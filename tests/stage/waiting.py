"""Waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition, for about so many seconds of this process's life.

    Time in which the process itself is stopped does not count.
    """
    for _ in range(round(seconds / 0.05)):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the condition was not met in time")
