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
    :param client_address: as the lines show it, or ""
    :param is_quiet: whether its success writes no line in the log
    :param is_audited: whether it has a line in the audit trail
    :ivar event: the event of its lines, and ``facts`` other members of them
    :ivar audit: members of its line in the audit trail alone
    :ivar caller: the account behind it, once that is known
    :ivar is_consuming: whether it presents a token to use it
    :ivar quota: that of the limit that counts it
    :ivar counts: for each limit that counted it the key, the count, and the seconds of its window
    :ivar verdicts: the verdicts of its limits, by name
    :ivar redis_seconds: of its time, that of Redis, and ``postgres_seconds`` that of Postgres
    :ivar is_complete: whether its response is counted and in the log
    :ivar span: its span, where calls are traced
    """

    __slots__ = (
        *("method", "endpoint", "given", "client_address", "is_quiet", "is_audited", "started"),
        *("event", "facts", "audit", "request_id", "caller", "is_consuming", "verdicts", "quota"),
        *("counts", "is_complete", "span", "redis_seconds", "postgres_seconds"),
    )

    def __init__(
        self,
        method: str,
        endpoint: str | None,
        given: Mapping[str, Any],
        *,
        client_address: str = "",
        is_quiet: bool = False,
        is_audited: bool = False,
    ) -> None:
        self.method = method
        self.endpoint = endpoint
        self.given = given
        self.client_address = client_address
        self.is_quiet = is_quiet
        self.is_audited = is_audited
        self.started = time.perf_counter()
        self.event = ""
        self.redis_seconds = self.postgres_seconds = 0.0
        self.facts: dict[str, Any] = {}
        self.audit: dict[str, Any] = {}
        self.request_id = ""
        self.caller: Any = None
        self.is_consuming = False
        self.verdicts: dict[str, Any] = {}
        self.quota = 0
        self.counts: list[tuple[str, int, float]] = []
        self.is_complete = False
        self.span: Any = None


#: None outside of a call, as in a command.
current: ContextVar[Call | None] = ContextVar("call", default=None)


def call() -> Call:
    """The current call, where there must be one."""
    found = current.get()
    assert found
    return found
