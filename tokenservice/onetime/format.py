"""What a token looks like.

``ott_`` + id (18) + epoch (4) + secret (28) + checksum (6), all in base62, so that a double
click selects it whole and one regular expression finds it for a secret scanner.

- id: public; names the record. Its first two characters are the shard tag.
- epoch: the beginning of the run_id of the server process that issued it. It decides nothing
  that the record can decide; it tells "lost in a restart" from "never existed" when the
  restarted server kept no record at all.
- secret: 28 characters, 166 bits, from the system's generator (ASVS 5.0 V11.5.1 asks 128).
- checksum: CRC32 of all before it, so that a typo costs no round trip. It is no signature.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Self

from tokenservice.onetime.errors import TokenMalformed

PREFIX = "ott_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TAG, ID, EPOCH, SECRET, CHECKSUM = 2, 18, 4, 28, 6
PATTERN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{ID + EPOCH + SECRET + CHECKSUM}}}")
ID_PATTERN = re.compile(rf"[0-9A-Za-z]{{{ID}}}")

_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]


def base62(number: int, length: int) -> str:
    """Write ``number`` in exactly ``length`` (an even count of) base62 digits."""
    pairs = []
    for _ in range(length // 2):
        number, pair = divmod(number, 3844)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))


def random_base62(length: int) -> str:
    """Draw ``length`` uniform base62 digits from the system's generator."""
    return base62(secrets.randbelow(62**length), length)


def shard_tag(owner: str, shards: int) -> str:
    """Give the tag that all records of one owner share, so that they share a cluster slot."""
    return base62(zlib.crc32(owner.encode()) % shards, TAG)


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart. Its secret is not printed."""

    id: str
    epoch: str
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a presented text apart.

        :raises TokenMalformed: for a wrong shape or checksum
        """
        body, checksum = text[:-CHECKSUM], text[-CHECKSUM:]
        if not PATTERN.fullmatch(text) or _checksum(body) != checksum:
            raise TokenMalformed
        start = len(PREFIX)
        return cls(
            id=body[start : start + ID],
            epoch=body[start + ID : start + ID + EPOCH],
            secret=body[start + ID + EPOCH :],
        )

    def __str__(self) -> str:
        body = f"{PREFIX}{self.id}{self.epoch}{self.secret}"
        return body + _checksum(body)

    @property
    def tag(self) -> str:
        return self.id[:TAG]


def verifier(secret: str) -> bytes:
    """Give what Redis keeps in place of the secret: its SHA-256.

    A plain hash is enough for a secret of 112 random bits or more (ASVS 5.0 V6.5.2).
    """
    return hashlib.sha256(secret.encode()).digest()


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()), CHECKSUM)
