"""What the calls return. A secret is not printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

V = TypeVar("V")


def value_of(kind: type[V], body: Mapping[str, Any]) -> V:
    """Read a value from the body of a response; further members are ignored.

    :raises KeyError, ValueError, TypeError: it is no such body
    """
    found: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]  # each kind is a dataclass
        value = body[one.name]
        is_time = str(one.type).startswith("datetime") and value is not None
        found[one.name] = datetime.fromisoformat(value) if is_time else value
    return kind(**found)


@dataclass(frozen=True, slots=True)
class Created:
    """A new token, which is shown only here.

    :ivar expires_in: its life in seconds; what is left of it, where the call was repeated
    :ivar audience: the ids of the only accounts that may consume it; None for any
    :ivar replayed: an earlier call with the same ``idempotency_key`` created it
    """

    token: str = field(repr=False)
    id: str
    expires_at: datetime
    expires_in: int
    state: str
    purpose: str | None
    audience: list[str] | None
    subject: str
    server_time: datetime
    replayed: bool


@dataclass(frozen=True, slots=True)
class Use:
    """The one successful use of a token.

    :ivar issued_by: the id of the account that created it
    :ivar issued_with, consumed_with: the ids of the service keys; None for a person
    :ivar replayed: this response repeats that of an earlier call with the same ``idempotency_key``
    """

    id: str
    subject: str
    purpose: str | None
    data: dict[str, Any] | None
    issued_by: str
    issued_with: str | None
    created_at: datetime
    consumed_at: datetime
    consumed_with: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A token that is reserved for this program until ``lease_expires_at``."""

    reservation: str = field(repr=False)
    id: str
    subject: str
    purpose: str | None
    data: dict[str, Any] | None
    issued_by: str
    issued_with: str | None
    created_at: datetime
    lease_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """A token that is alive, as its creator or its audience sees it.

    :ivar expires_in: the seconds that are left
    :ivar bound: it approves one action only
    """

    id: str
    state: str
    expires_in: float
    expires_at: datetime
    created_at: datetime
    purpose: str | None
    audience: list[str] | None
    subject: str
    issued_by: str
    issued_with: str | None
    bound: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of a token, without its secret.

    :ivar state: active, reserved, consumed, revoked, expired or lost
    :ivar consumed_by: the id of the account that consumed it
    :ivar replays: how often it was presented again
    """

    id: str
    state: str
    purpose: str | None
    subject: str
    created_at: datetime
    expires_at: datetime
    consumed_at: datetime | None
    consumed_by: str | None
    issued_with: str | None
    consumed_with: str | None
    replays: int
