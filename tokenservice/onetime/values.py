"""What the verbs take and give: frozen values, no Redis and no HTTP.

Times are aware datetimes, read from the server's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class State(StrEnum):
    """What a token is now. The last three are final, and so is ``consumed``."""

    ACTIVE = "active"
    RESERVED = "reserved"
    CONSUMED = "consumed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Party:
    """Someone who presents or owns tokens: an id, and an address they may be named by."""

    id: str
    correo: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a new token is bound to; empty means not bound.

    :param audience: ids or addresses of those who alone may consume it
    :param subject: whom it speaks for; empty means its owner
    :param data: JSON text, handed to whoever consumes it
    :param bind: hex SHA-256 of the action that it approves
    """

    purpose: str = ""
    audience: tuple[str, ...] = ()
    subject: str = ""
    data: str = ""
    bind: str = ""


@dataclass(frozen=True, slots=True)
class Presented:
    """A token's text, and what its presenter takes it to be bound to."""

    text: str = field(repr=False)
    purpose: str = ""
    subject: str = ""
    bind: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """A new token, or (``replayed``) one told again. ``text`` is not printed."""

    id: str
    created_at: datetime
    expires_at: datetime
    text: str = field(repr=False)
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Consumed:
    """The one first success of a token, or (``replayed``) that same answer again."""

    id: str
    owner: str
    subject: str
    purpose: str
    data: str = field(repr=False)
    created_at: datetime
    consumed_at: datetime
    replayed: bool


@dataclass(frozen=True, slots=True)
class Reserved:
    """A token held for one party until ``lease_expires_at``. ``text`` is not printed."""

    id: str
    owner: str
    subject: str
    purpose: str
    data: str = field(repr=False)
    created_at: datetime
    lease_expires_at: datetime
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a token. Nothing in it is secret."""

    id: str
    state: State
    owner: str
    subject: str
    purpose: str
    created_at: datetime
    expires_at: datetime
    consumed_at: datetime | None
    consumed_by: str | None
    replays: int


@dataclass(frozen=True, slots=True)
class Introspection:
    """An active token, as seen by someone who holds it and whom it is for."""

    receipt: Receipt
    audience: tuple[str, ...]
    is_bound: bool
    expires_in: float


@dataclass(frozen=True, slots=True)
class Page:
    """Some of an owner's receipts, newest first, and where to go on ("" at the end)."""

    items: tuple[Receipt, ...]
    next_cursor: str


def moment(milliseconds: int | bytes) -> datetime:
    """Read a time of the server's clock, in milliseconds since 1970."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
