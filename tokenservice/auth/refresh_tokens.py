"""The text of a refresh token.

``osr_`` + session (32) + nonce (14) + MAC (28) + checksum (6): the session's id in hexadecimal, the
rest in base62. The MAC is made under a key from ``secret_key``: a made-up token costs no query, and
cannot end a session as a used one does. The nonce of a successor is derived from its predecessor,
so that a repeat after a lost response gets the same one. Postgres has hashes only. While a key is
being replaced, services sign with different ones, and each accepts both.
"""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tokenservice.extensions import part
from tokenservice.onetime.errors import TokenMalformed
from tokenservice.onetime.format import (
    CHECKSUM,
    NONCE,
    SECRET,
    derived_key,
    derived_secret,
    new_nonce,
    taken_apart,
    verifier,
    with_checksum,
)

PREFIX = "osr_"
SESSION = 32
PATTERN = re.compile(rf"{PREFIX}[0-9a-f]{{{SESSION}}}[0-9A-Za-z]{{{NONCE + SECRET + CHECKSUM}}}")


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token taken apart. Its MAC is not printed."""

    session: uuid.UUID
    nonce: str = field(repr=False)
    mac: str = field(repr=False)

    def __str__(self) -> str:
        return with_checksum(f"{PREFIX}{self.session.hex}{self.nonce}{self.mac}")

    @property
    def verifier(self) -> bytes:
        """The hash that Postgres keeps in its place."""
        return verifier(str(self))


class RefreshTokens:
    """Refresh tokens under the keys of this service. The first signs, and all are accepted."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [derived_key(b"refresh tokens", secret.encode()) for secret in secrets]

    def first(self, session: uuid.UUID) -> RefreshToken:
        """A new token, that of a new session."""
        return signed(self._keys[0], session, new_nonce())

    def successors(self, token: RefreshToken) -> Iterator[RefreshToken]:
        """The token that comes after ``token`` under each key; the first is this service's own."""
        for key in self._keys:
            nonce = derived_secret(key, "successor", str(token))[:NONCE]
            yield signed(key, token.session, nonce)

    def parse(self, text: str) -> RefreshToken:
        """:raises TokenMalformed: this service never issued it"""
        session, nonce, mac = taken_apart(text, PATTERN, SESSION, NONCE, SECRET)
        for key in self._keys:
            genuine = signed(key, uuid.UUID(session), nonce)
            if hmac.compare_digest(genuine.mac, mac):
                return genuine
        raise TokenMalformed


def signed(key: bytes, session: uuid.UUID, nonce: str) -> RefreshToken:
    return RefreshToken(session, nonce, derived_secret(key, PREFIX, session.hex, nonce))


refresh_tokens = part(RefreshTokens)
