"""Why the engine did not do what it was asked.

OneTimeError
├── TokenRefused             the token was found wanting; nothing was consumed by this call
│   ├── TokenMalformed       not a token at all; decided without asking Redis
│   ├── TokenUnknown         no such record, or the secret is not its secret
│   ├── TokenNotForCaller    the caller is not in its audience
│   ├── TokenMismatch        purpose, subject or bound action differ
│   ├── TokenAlreadyUsed     consumed before
│   ├── TokenReserved        someone holds a reservation of it
│   ├── TokenExpired         its life is over
│   ├── TokenRevoked         its owner, or who held it, took it back
│   ├── TokenLost            another server process issued it: single use cannot be proven
│   └── LeaseEnded           the reservation is over
├── IdempotencyMismatch      this key was used for another request
├── TooManyActive            the owner has as many outstanding tokens as one may have
└── StoreUnavailable         Redis gave no answer that can be trusted; the outcome is unknown
"""

from __future__ import annotations

from datetime import datetime


class OneTimeError(Exception):
    """Never raised itself."""


class TokenRefused(OneTimeError):
    """Never raised itself.

    :param token_id: the public id, or "" where the text had none
    """

    def __init__(self, token_id: str = "") -> None:
        super().__init__(token_id)
        self.token_id = token_id


class TokenMalformed(TokenRefused):
    """The text has not the shape of a token, or its checksum is wrong."""


class TokenUnknown(TokenRefused):
    """No record of it, or a wrong secret: the two are not told apart."""


class TokenNotForCaller(TokenRefused):
    """The caller is not in its audience."""


class TokenMismatch(TokenRefused):
    """``field`` (purpose, subject or bind) is not what the token was created with."""

    def __init__(self, token_id: str, field: str) -> None:
        super().__init__(token_id)
        self.field = field


class TokenAlreadyUsed(TokenRefused):
    """Someone consumed it at ``consumed_at``, by the server's clock."""

    def __init__(self, token_id: str, consumed_at: datetime) -> None:
        super().__init__(token_id)
        self.consumed_at = consumed_at


class TokenReserved(TokenRefused):
    """Someone holds it for ``seconds`` more, unless they let go before."""

    def __init__(self, token_id: str, seconds: float) -> None:
        super().__init__(token_id)
        self.seconds = seconds


class TokenExpired(TokenRefused):
    """Its life is over."""


class TokenRevoked(TokenRefused):
    """It was revoked before anyone consumed it."""


class TokenLost(TokenRefused):
    """The store restarted or failed over after it was created."""


class LeaseEnded(TokenRefused):
    """The reservation ran out, was given back, or was replaced by a later one."""


class IdempotencyMismatch(OneTimeError):
    """The same caller used the same key for another request of the same kind."""


class TooManyActive(OneTimeError):
    """There is room for what was asked in ``seconds`` at the latest."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class StoreUnavailable(OneTimeError):
    """Redis refused, timed out, or cannot write; the outcome is unknown, never "invalid"."""
