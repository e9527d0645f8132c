"""The text of a token and of a reservation.

``ott_`` + id (18) + epoch (4) + secret (28) + checksum (6), all in base62, so that a double
click selects it whole and one regular expression finds it for a secret scanner.

- id: public; names the record. Its first two characters are the shard tag, and the next six the
  owner's handle: both name the keys of the owner, whom a presenter does not know.
- epoch: from a hash of the term (see scripts/prelude.lua) that issued it. The record decides; the
  epoch only tells "lost in a restart" from "never existed" when no record is left.
- secret: 28 characters, 166 bits, from the system's generator (ASVS 5.0 V11.5.1 asks 128).
- checksum: CRC32 of the rest, so that a typo costs no round trip. It is no signature.

A reservation, ``otr_``, has a nonce (14) after the epoch, and its 28 characters of secret are a
MAC over id, nonce and holder: only the holder can present it, and Redis keeps only the nonce.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Self

from tokenservice.onetime.errors import TokenMalformed, TokenUnknown

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN, RESERVATION = "ott_", "otr_"
TAG, HANDLE, ID, EPOCH, NONCE, SECRET, CHECKSUM = 2, 6, 18, 4, 14, 28, 6
TOKEN_PATTERN = re.compile(rf"{TOKEN}[0-9A-Za-z]{{{ID + EPOCH + SECRET + CHECKSUM}}}")
RESERVATION_PATTERN = re.compile(
    rf"{RESERVATION}[0-9A-Za-z]{{{ID + EPOCH + NONCE + SECRET + CHECKSUM}}}"
)
ID_PATTERN = re.compile(rf"[0-9A-Za-z]{{{ID}}}")

_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]


def base62(number: int, length: int) -> str:
    """Write ``number`` in exactly ``length`` (an even count of) base62 digits."""
    text = ""
    for _ in range(length // 2):
        text = _PAIRS[number % 3844] + text
        number //= 3844
    return text


def random_base62(length: int) -> str:
    """Draw ``length`` uniform base62 digits from the system's generator."""
    return base62(secrets.randbelow(62**length), length)


def new_secret() -> str:
    return random_base62(SECRET)


def new_nonce() -> str:
    return random_base62(NONCE)


def derived_key(use: bytes, secret: bytes) -> bytes:
    """A key from ``secret`` for one use, which tells nothing of the keys for others."""
    return hashlib.sha256(use + b"\0" + secret).digest()


def derived_secret(key: bytes, *parts: str) -> str:
    """Derive the secret of ``parts`` under ``key``."""
    digest = hmac.digest(key, "\0".join(parts).encode(), "sha256")
    return base62(int.from_bytes(digest), SECRET)


def shard_tag(owner: str, shards: int) -> str:
    """The tag that all records of one owner share, and so a cluster slot."""
    return base62(zlib.crc32(owner.encode()) % shards, TAG)


def owner_handle(owner: str) -> str:
    """The short name of ``owner`` in the ids of its tokens.

    Two owners in some 10^10 share one. They then share a cap and an index, and nothing else.
    """
    return base62(int.from_bytes(hashlib.sha256(owner.encode()).digest()) % 62**HANDLE, HANDLE)


def epoch_of(term: bytes) -> str:
    """The characters of ``term`` in a token's text."""
    return hashlib.sha1(term).hexdigest()[:EPOCH]  # noqa: S324 - as redis.sha1hex, and no secret


def verifier(secret: str) -> bytes:
    """The SHA-256 of the secret, which Redis keeps in its place.

    A plain hash is enough for a secret of 112 random bits or more (ASVS 5.0 V6.5.2).
    """
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart. Its secret is not printed."""

    id: str
    epoch: str
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """:raises TokenMalformed: wrong shape or checksum"""
        return cls(*taken_apart(text, TOKEN_PATTERN, ID, EPOCH, SECRET))

    def __str__(self) -> str:
        return with_checksum(f"{TOKEN}{self.id}{self.epoch}{self.secret}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation taken apart. Its MAC is not printed."""

    id: str
    epoch: str
    nonce: str
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """:raises TokenMalformed: wrong shape or checksum"""
        return cls(*taken_apart(text, RESERVATION_PATTERN, ID, EPOCH, NONCE, SECRET))

    @classmethod
    def held_by(cls, holder: str, key: bytes, token_id: str, epoch: str, nonce: str) -> Self:
        """The one reservation of ``holder`` under ``nonce``."""
        secret = derived_secret(key, RESERVATION, token_id, nonce, holder)
        return cls(token_id, epoch, nonce, secret)

    def is_held_by(self, holder: str, key: bytes) -> bool:
        genuine = self.held_by(holder, key, self.id, self.epoch, self.nonce)
        return hmac.compare_digest(genuine.secret, self.secret)

    def __str__(self) -> str:
        return with_checksum(f"{RESERVATION}{self.id}{self.epoch}{self.nonce}{self.secret}")


def checked_id(token_id: str) -> str:
    """:raises TokenUnknown: it lacks the shape of an id, and must not become part of a key"""
    if not ID_PATTERN.fullmatch(token_id):
        raise TokenUnknown
    return token_id


def digest(*parts: str) -> str:
    """Hash ``parts`` so that no two lists of them collide."""
    measured = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(measured.encode()).hexdigest()


def idempotency(caller: str, verb: str, key: str, *request: str) -> tuple[str, str]:
    """Hashes of the name of ``key``, and of its request; empty where there is no key."""
    return (digest(caller, verb, key), digest(*request)) if key else ("", "")


def with_checksum(body: str) -> str:
    """The text of ``body``: a prefix of four characters, and fields in base62."""
    return body + base62(zlib.crc32(body.encode()), CHECKSUM)


def taken_apart(text: str, pattern: re.Pattern[str], *lengths: int) -> list[str]:
    """The fields of a text, of these lengths.

    :raises TokenMalformed: wrong shape or checksum
    """
    if not pattern.fullmatch(text) or with_checksum(text[:-CHECKSUM]) != text:
        raise TokenMalformed
    fields, start = [], len(TOKEN)
    for length in lengths:
        fields.append(text[start : start + length])
        start += length
    return fields
