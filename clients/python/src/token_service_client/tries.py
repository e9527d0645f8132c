"""When a call is tried again, and the error that is raised in the end. Nothing is sent here."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from token_service_client.errors import CallRefused, RateLimited, TokensError, Unavailable

#: The statuses after which a call is tried again, under the same key; after no other.
REPEATED = {429, 502, 503, 504}
#: The 503 that say that nothing was done.
UNTOUCHED = {"busy", "not_ready", "database_unavailable"}
FIRST_WAIT = 0.1  # seconds, doubled by each try


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a call goes on.

    :ivar retries: the most tries after the first one
    :ivar deadline: the seconds after which no further try begins
    :ivar timeout: the seconds that one try waits for a connection or for a response
    """

    retries: int
    deadline: float
    timeout: float


class Try(NamedTuple):
    """One try of a call: first wait, then send."""

    wait: float
    timeout: float


class Reply(NamedTuple):
    """The end of a try: a response, or with the status 0 none.

    :ivar body: its JSON; None where it has none
    :ivar reached: False where the request certainly did not reach the service
    :ivar retry_after: seconds; 0 where the response names none
    """

    status: int
    body: Any = None
    retry_after: float = 0
    reached: bool = True
    code: str = ""

    @property
    def is_repeated(self) -> bool:
        return self.status in REPEATED or self.status == 0

    @property
    def is_unknown(self) -> bool:
        """Whether the service may have done the work without a response that says so."""
        if self.status == 0:
            return self.reached
        return self.status >= 500 and not (self.status == 503 and self.code in UNTOUCHED)


def reply_of(status: int, body: Any, retry_after: str) -> Reply:
    """:param retry_after: the header, or "" """
    seconds = float(retry_after) if retry_after.isdecimal() else 0
    named = body.get("code") if isinstance(body, dict) else None
    return Reply(status, body, seconds, code=str(named or f"http_{status}"))


def no_response(reason: str, *, reached: bool) -> Reply:
    """:param reason: the kind of failure, such as ReadTimeout"""
    problem = {"title": "No response" if reached else "Not reached", "detail": reason}
    return Reply(0, problem, reached=reached, code="no_response" if reached else "unreachable")


def tries(policy: Policy, now: Callable[[], float]) -> Generator[Try, Reply, Any]:
    """Yield each try, take its reply, and return the body of the one that succeeds.

    :raises TokensError: it is refused, or the tries or the time are over
    """
    deadline, unknown, wait = now() + policy.deadline, False, 0.0
    for number in range(policy.retries + 1):
        left = deadline - now() - wait
        reply = yield Try(wait, min(policy.timeout, left))
        if reply.status // 100 == 2:
            return reply.body
        unknown = unknown or reply.is_unknown
        if not reply.is_repeated:
            break
        backoff = FIRST_WAIT * 2**number
        # The jitter keeps callers that failed together from coming back together.
        wait = max(reply.retry_after, backoff / 2) + random.uniform(0, backoff / 2)  # noqa: S311
        if now() + wait >= deadline:
            break
    raise error_of(reply, unknown)


def error_of(reply: Reply, unknown: bool) -> TokensError:
    """:param unknown: a try, this or an earlier one, may have done the work"""
    problem: Mapping[str, Any] = reply.body if isinstance(reply.body, dict) else {}
    found = (reply.code, reply.status, problem, reply.retry_after)
    if reply.status in (0, 429) or reply.status >= 500:
        # An earlier try that was lost outweighs a later one that was only refused.
        if unknown or reply.status != 429:
            return Unavailable(*found, outcome_unknown=unknown)
        return RateLimited(*found)
    return TokensError.kinds.get(reply.code, CallRefused)(*found)
