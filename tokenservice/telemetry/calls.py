"""The call that is being answered: what it says of itself, and what is known of its response.

It knows no Flask. Each door makes one and sets it as the current one, and every room reads it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any


class Call:
    """A request from its first line to its response.

    :param endpoint: the view that answers it; None where there is none
    :param given: its headers, by the names of WSGI (``HTTP_X_REQUEST_ID``)
    :param is_quiet: whether its success writes no line in the log
    :ivar event: the event of its line in the log, and ``facts`` the other members
    :ivar caller: the account behind it, once that is known
    :ivar is_consuming: whether it presents a token to use it
    :ivar quota: that of the limit that counts it
    :ivar counts: for each limit that counted it the key, the count, and the seconds of its window
    :ivar verdicts: the verdicts of its limits, by name
    :ivar is_complete: whether its response is counted and in the log
    """

    __slots__ = (
        *("method", "endpoint", "given", "is_quiet", "started", "event", "facts", "request_id"),
        *("caller", "is_consuming", "verdicts", "quota", "counts", "is_complete"),
    )

    def __init__(
        self,
        method: str,
        endpoint: str | None,
        given: Mapping[str, Any],
        *,
        is_quiet: bool = False,
    ) -> None:
        self.method = method
        self.endpoint = endpoint
        self.given = given
        self.is_quiet = is_quiet
        self.started = time.perf_counter()
        self.event = ""
        self.facts: dict[str, Any] = {}
        self.request_id = ""
        self.caller: Any = None
        self.is_consuming = False
        self.verdicts: dict[str, Any] = {}
        self.quota = 0
        self.counts: list[tuple[str, int, float]] = []
        self.is_complete = False


#: None outside of a call, as in a command.
current: ContextVar[Call | None] = ContextVar("call", default=None)


def call() -> Call:
    """The current call, where there must be one."""
    found = current.get()
    assert found
    return found
