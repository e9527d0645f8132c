"""Why the engine did not do what it was asked.

OneTimeError
├── TokenMalformed      not a token at all; decided without asking Redis
├── TokenUnknown        no such record, or the secret is not its secret
├── TokenAlreadyUsed    consumed before
├── TokenExpired        its life is over
├── TokenLost           another server process issued it: single use cannot be proven
└── StoreUnavailable    Redis gave no answer that can be trusted; the outcome is unknown
"""

from __future__ import annotations

from datetime import datetime


class OneTimeError(Exception):
    """Never raised itself."""


class TokenMalformed(OneTimeError):
    """The text has not the shape of a token, or its checksum is wrong."""


class TokenUnknown(OneTimeError):
    """No record of it, or a wrong secret: the two are not told apart."""


class TokenAlreadyUsed(OneTimeError):
    """Someone consumed it at ``consumed_at``, by the server's clock."""

    def __init__(self, token_id: str, consumed_at: datetime) -> None:
        super().__init__(token_id)
        self.token_id = token_id
        self.consumed_at = consumed_at


class TokenExpired(OneTimeError):
    """Its life is over."""


class TokenLost(OneTimeError):
    """The store restarted or failed over after it was created."""


class StoreUnavailable(OneTimeError):
    """Redis refused, timed out, or cannot write; the outcome is unknown, never "invalid"."""
