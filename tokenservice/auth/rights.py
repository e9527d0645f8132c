"""The text of a service key, and what the key may do: scopes, purposes, networks and limits."""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Self

from tokenservice.auth.models import ServiceKey
from tokenservice.onetime.format import (
    CHECKSUM,
    ID,
    SECRET,
    new_secret,
    random_base62,
    taken_apart,
    verifier,
    with_checksum,
)
from tokenservice.web.addresses import Address
from tokenservice.web.problems import Problem

#: A person's JWT has all of them.
SCOPES = ("token:create", "token:consume", "token:read", "token:revoke")
PREFIX = "osk_"
TEXT = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{ID + SECRET + CHECKSUM}}}")
EPOCH = date(1970, 1, 1)
#: In place of the hash of a key that does not exist.
NOBODY = bytes(32)

#: In the OpenAPI document: the way of standard clients to the JWT of a key.
SECURITY_SCHEME = {
    "type": "oauth2",
    "description": "The **id** of a service key, and the key (**osk_…**).",
    "flows": {
        "clientCredentials": {
            "tokenUrl": "/auth/token",
            "scopes": {
                "token:create": "Create tokens.",
                "token:consume": "Consume, reserve, commit and release them.",
                "token:read": "Introspect, read the receipt, list.",
                "token:revoke": "Revoke them.",
            },
        }
    },
}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class KeyText:
    """The text of a service key, taken apart. Its secret is not printed.

    ``osk_`` + id (18) + secret (28) + checksum (6), as of a token (see onetime/format.py).
    """

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        return cls(random_base62(ID), new_secret())

    @classmethod
    def parse(cls, text: str) -> Self:
        """:raises TokenMalformed: wrong shape or checksum"""
        return cls(*taken_apart(text, TEXT, ID, SECRET))

    @property
    def verifier(self) -> bytes:
        """The hash that Postgres keeps in place of the secret."""
        return verifier(self.secret)

    def __str__(self) -> str:
        return with_checksum(f"{PREFIX}{self.id}{self.secret}")


@dataclass(frozen=True, slots=True)
class Key:
    """A service key, as it was read.

    :param purposes: the only purposes that it may create and consume, or the beginning of each and
        a "*"; empty for any
    :param networks: the only networks that it may come from; empty for any
    :param limits: rates of its own, by the name of the limit
    :param own_quota: whether they stand in place of its account's
    :param ends_at: in seconds since 1970; infinite for a key that does not expire
    :param used_on: the last day of its use, counted since 1970, as far as Postgres knows
    """

    id: str
    scopes: frozenset[str]
    purposes: tuple[str, ...]
    networks: tuple[Network, ...]
    limits: Mapping[str, str]
    own_quota: bool
    ends_at: float
    used_on: int
    is_revoked: bool
    verifier: bytes = field(repr=False)

    @classmethod
    def of(cls, row: ServiceKey, scope: str = "") -> Self:
        """What a row says, or no more than ``scope`` of it."""
        asked = scope.split() if scope else row.scopes
        return cls(
            row.id,
            frozenset(row.scopes).intersection(asked),
            row.purposes,
            tuple(map(ipaddress.ip_network, row.cidrs)),
            row.limits,
            own_quota=row.own_quota,
            ends_at=row.expires_at.timestamp() if row.expires_at else math.inf,
            used_on=(row.last_used_on - EPOCH).days if row.last_used_on else -1,
            is_revoked=row.revoked_at is not None,
            verifier=row.secret_hash,
        )

    @property
    def is_current(self) -> bool:
        return not self.is_revoked and time.time() < self.ends_at

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.ends_at - time.time())

    def admits(self, address: Address | None) -> bool:
        """Tell whether ``address`` is in one of its networks."""
        return address is not None and any(address in network for network in self.networks)

    def demand_scope(self, scope: str) -> None:
        """:raises Problem: it lacks ``scope``, or no key may do this at all (it is empty)"""
        if scope not in self.scopes:
            # RFC 6750 section 3.1.
            named = f', scope="{scope}"' if scope else ""
            challenge = f'Bearer error="insufficient_scope"{named}'
            raise Problem("insufficient_scope", headers={"WWW-Authenticate": challenge})

    def demand_purpose(self, purpose: str) -> None:
        """:raises Problem: it may not create or consume tokens of ``purpose``, empty for none"""
        if self.purposes and not (purpose and any(covers(one, purpose) for one in self.purposes)):
            raise Problem("purpose_not_allowed")


def today() -> int:
    """The days since 1970, in UTC."""
    return int(time.time()) // 86_400


def covers(allowed: str, purpose: str) -> bool:
    """Tell whether ``allowed`` is this purpose, or its beginning with a "*" behind it."""
    if allowed.endswith("*"):
        return purpose.startswith(allowed[:-1])
    return purpose == allowed
