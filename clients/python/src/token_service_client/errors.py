"""The errors of a call, each with the code of its problem.

TokensError
├── Refused            the token is refused, and this call consumed nothing
│   ├── AlreadyUsed    consumed before, at consumed_at
│   ├── Expired        its life is over
│   ├── Revoked        revoked before a consume
│   ├── Lost           Redis restarted or failed over: single use can no longer be proven
│   ├── Reserved       another reservation holds it, for retry_after seconds at most
│   ├── NotForCaller   the account of this program is not in its audience
│   ├── Mismatch       field differs: issued_by, purpose, subject or bind
│   ├── Unknown        no record, or a wrong secret
│   ├── Malformed      the text is not a whole token
│   └── LeaseEnded     the reservation is over
├── Unavailable        after all tries there is no response that tells the outcome
├── RateLimited        after all tries the call is over a limit, for retry_after seconds
└── CallRefused        the call itself is wrong: its key, a scope, a field
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar


class TokensError(Exception):
    """The base of all; its text holds no token and no key.

    :ivar code: the stable name of the problem, such as ``token_expired``
    :ivar status: the HTTP status; 0 where there was no response
    :ivar problem: the members of the problem (RFC 9457); empty where the response was none
    :ivar retry_after: the seconds after which a repeat may succeed; 0 where that is unknown
    """

    kinds: ClassVar[dict[str, type[TokensError]]] = {}

    def __init_subclass__(cls, code: str = "") -> None:
        if code:
            cls.kinds[code] = cls

    def __init__(
        self,
        code: str,
        status: int = 0,
        problem: Mapping[str, Any] | None = None,
        retry_after: float = 0,
    ) -> None:
        super().__init__(code, status, problem, retry_after)
        self.code, self.status, self.retry_after = code, status, retry_after
        self.problem = dict(problem or {})
        self.title = str(self.problem.get("title", ""))
        self.detail = str(self.problem.get("detail", ""))

    def __str__(self) -> str:
        status = f" ({self.status})" if self.status else ""
        fields = f" {self.problem['errors']}" if "errors" in self.problem else ""
        return f"{self.code}{status}: {self.detail or self.title}{fields}".removesuffix(": ")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class Refused(TokensError):
    """The token is refused, and this call consumed nothing."""


class AlreadyUsed(Refused, code="token_already_used"):
    """The token was consumed before."""

    @property
    def consumed_at(self) -> datetime:
        """The time of that, by the clock of the service."""
        return datetime.fromisoformat(self.problem["consumed_at"])


class Expired(Refused, code="token_expired"):
    """The life of the token is over."""


class Revoked(Refused, code="token_revoked"):
    """The token was revoked before it was consumed."""


class Lost(Refused, code="token_lost"):
    """The store restarted, failed over or moved, and single use can no longer be proven."""


class Reserved(Refused, code="token_reserved"):
    """Another reservation holds the token, for ``retry_after`` seconds at most."""


class NotForCaller(Refused, code="token_not_for_caller"):
    """The account of this program is not in the audience of the token."""


class Mismatch(Refused, code="token_mismatch"):
    """A term differs from the token's."""

    @property
    def field(self) -> str:
        """The name of that: issued_by, purpose, subject or bind."""
        return str(self.problem["field"])


class Unknown(Refused, code="token_unknown"):
    """There is no record of the token, or its secret is wrong."""


class Malformed(Refused, code="token_malformed"):
    """The text is not a whole token."""


class LeaseEnded(Refused, code="lease_ended"):
    """The reservation is overdue, and another caller may hold the token now."""


class Unavailable(TokensError):
    """After all tries there is no response that tells the outcome.

    :ivar outcome_unknown: False where certainly nothing was done. Where it is True, the same call
        with the same ``idempotency_key`` later tells the outcome.
    """

    def __init__(
        self,
        code: str,
        status: int = 0,
        problem: Mapping[str, Any] | None = None,
        retry_after: float = 0,
        outcome_unknown: bool = True,
    ) -> None:
        super().__init__(code, status, problem, retry_after)
        self.args = (*self.args, outcome_unknown)
        self.outcome_unknown = outcome_unknown


class RateLimited(TokensError):
    """After all tries the call is over a limit, and nothing was done."""


class CallRefused(TokensError):
    """The call is wrong: its key, a scope, a purpose or a field. The token was not judged."""
