"""Waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition, for about so many seconds of this process's life.

    Time in which the process itself is stopped does not count.
    """
    for _ in range(round(seconds / 0.05)):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the condition was not met in time")


def served(call: Callable[[], Any]) -> Any:
    """The response of a call, repeated while the service says 503 and to try again.

    A machine that stands still for a second makes the service give up on Postgres, or shed a
    request. For a test of something else; a call that must not be repeated as it is has to change
    with each try.
    """
    for _ in range(20):
        response = call()
        if response.status_code != 503:
            break
        time.sleep(0.3)  # longer than the breaker lets Postgres alone
    return response
