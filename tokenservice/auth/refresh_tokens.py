"""The text of a refresh token.

``osr_`` + session (32) + nonce (14) + MAC (28) + checksum (6): the session's id in hexadecimal, the
rest in base62. The MAC is made under a key from ``secret_key``: a made-up token costs no query, and
cannot end a session as a used one does. The nonce of a successor is derived from its predecessor,
so that a repeat after a lost response gets the same one. Postgres has hashes only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from dataclasses import dataclass, field

from tokenservice.extensions import part
from tokenservice.onetime.errors import TokenMalformed
from tokenservice.onetime.format import (
    CHECKSUM,
    NONCE,
    SECRET,
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
    """Refresh tokens under the key of this service."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.sha256(b"refresh tokens\0" + secret).digest()

    def first(self, session: uuid.UUID) -> RefreshToken:
        """A new token, that of a new session."""
        return self._signed(session, new_nonce())

    def successor(self, token: RefreshToken) -> RefreshToken:
        """The one token that comes after ``token``."""
        nonce = derived_secret(self._key, "successor", str(token))[:NONCE]
        return self._signed(token.session, nonce)

    def parse(self, text: str) -> RefreshToken:
        """:raises TokenMalformed: this service never issued it"""
        session, nonce, mac = taken_apart(text, PATTERN, SESSION, NONCE, SECRET)
        genuine = self._signed(uuid.UUID(session), nonce)
        if not hmac.compare_digest(genuine.mac, mac):
            raise TokenMalformed
        return genuine

    def _signed(self, session: uuid.UUID, nonce: str) -> RefreshToken:
        mac = derived_secret(self._key, PREFIX, session.hex, nonce)
        return RefreshToken(session, nonce, mac)


refresh_tokens = part(RefreshTokens)
