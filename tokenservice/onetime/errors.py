"""The refusals and failures of the engine, each with its code.

OneTimeError
├── TokenRefused             the token is refused; this call consumed nothing
│   ├── TokenMalformed       not a token; decided without Redis
│   ├── TokenUnknown         no record, or a wrong secret
│   ├── TokenNotForCaller    the caller is not in its audience
│   ├── TokenMismatch        its issuer, purpose, subject or bound action differs
│   ├── TokenAlreadyUsed     consumed before
│   ├── TokenReserved        another reservation holds it
│   ├── TokenExpired         its life is over
│   ├── TokenRevoked         revoked before a consume
│   ├── TokenLost            issued by another term: single use cannot be proven
│   └── LeaseEnded           the reservation is over
├── IdempotencyMismatch      the key belongs to another request
├── TooManyActive            the owner has the most outstanding tokens allowed
├── TooManyCuts              the owner has the most narrow cuts allowed
└── StoreUnavailable         Redis gave no trustworthy reply; the outcome is unknown

OwnerDisabled stands apart: it is about the caller and no token.

A code is one word from Lua to the log: a script replies with it, a response carries it as ``code``
and metrics label with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

from tokenservice.onetime.values import moment


class OneTimeError(Exception):
    """The base of all; never raised itself.

    :cvar code: the stable name of the outcome
    :cvar kinds: the class of each code
    :ivar seconds: the time after which a repeat may succeed, where it is known
    """

    code: ClassVar[str]
    kinds: ClassVar[dict[str, type[OneTimeError]]] = {}
    seconds: float | None = None

    def __init_subclass__(cls, code: str = "") -> None:
        if code:
            cls.code = code
            cls.kinds[code] = cls

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        """Build it from the facts that follow its code in a script's reply."""
        return cls()

    @property
    def facts(self) -> dict[str, Any]:
        """Public facts beside the code."""
        return {}


class TokenRefused(OneTimeError):
    """The base of the refusals; never raised itself.

    :param token_id: the public id, or "" where the text had none
    """

    def __init__(self, token_id: str = "") -> None:
        super().__init__(token_id)
        self.token_id = token_id

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        return cls(token_id)


class TokenMalformed(TokenRefused, code="token_malformed"):
    """The text lacks the shape of a token, or its checksum is wrong."""


class TokenUnknown(TokenRefused, code="token_unknown"):
    """There is no record, or the secret is wrong: the two are not told apart."""


class TokenNotForCaller(TokenRefused, code="token_not_for_caller"):
    """The caller is not in the token's audience."""


class TokenMismatch(TokenRefused, code="token_mismatch"):
    """``field`` differs: issued_by, purpose, subject or bind; or the data are too long."""

    def __init__(self, token_id: str, field: str) -> None:
        super().__init__(token_id)
        self.field = field

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        return cls(token_id, facts[0].decode())

    @property
    def facts(self) -> dict[str, Any]:
        return {"field": self.field}


class TokenAlreadyUsed(TokenRefused, code="token_already_used"):
    """The token was consumed at ``consumed_at``, by the server's clock."""

    def __init__(self, token_id: str, consumed_at: datetime) -> None:
        super().__init__(token_id)
        self.consumed_at = consumed_at

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        return cls(token_id, moment(facts[0]))

    @property
    def facts(self) -> dict[str, Any]:
        return {"consumed_at": self.consumed_at.isoformat()}


class TokenReserved(TokenRefused, code="token_reserved"):
    """A reservation holds the token for ``seconds`` more at most."""

    def __init__(self, token_id: str, seconds: float) -> None:
        super().__init__(token_id)
        self.seconds = seconds

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        return cls(token_id, int(facts[0]) / 1000)


class TokenExpired(TokenRefused, code="token_expired"):
    """The token's life is over."""


class TokenRevoked(TokenRefused, code="token_revoked"):
    """The token was revoked before a consume."""


class TokenLost(TokenRefused, code="token_lost"):
    """The store restarted, failed over or moved after it issued the token."""


class LeaseEnded(TokenRefused, code="lease_ended"):
    """The reservation is overdue, released, or replaced by a later one."""


class IdempotencyMismatch(OneTimeError, code="idempotency_mismatch"):
    """The caller used the key for another request of the same kind."""


class TooManyActive(OneTimeError, code="too_many_active"):
    """There is room for the request in ``seconds`` at the latest."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        return cls(int(facts[0]) / 1000)


class TooManyCuts(OneTimeError, code="too_many_cuts"):
    """The narrow cuts of the owner end in ``seconds``; a cut of all replaces them at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds

    @classmethod
    def from_reply(cls, token_id: str, facts: Sequence[Any]) -> Self:
        return cls(max(0, int(facts[0])) / 1000)


class StoreUnavailable(OneTimeError, code="store_unavailable"):
    """Redis refused, timed out, or cannot write; the outcome is unknown, never "invalid"."""


class OwnerDisabled(Exception):
    """The owner was disabled a short while ago, and creates nothing."""
