"""Arguments and results of the verbs: frozen values without Redis or HTTP.

Times are aware datetimes, read from the server's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

#: A disabled owner creates nothing for twice the longest time that a worker remembers an account.
OFF_SECONDS = 600
#: The most purposes and subjects of an owner that are cut off on their own.
MOST_CUTS = 1000


class State(StrEnum):
    """The state of a token. ``consumed`` and ``revoked`` are final."""

    ACTIVE = "active"
    RESERVED = "reserved"
    CONSUMED = "consumed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Party:
    """A presenter or an owner.

    :param correo: the address that an audience may name
    :param key_id: the id of the key that it presents; empty for a person
    """

    id: str
    correo: str = ""
    key_id: str = ""

    @property
    def holder(self) -> str:
        """The name under which it holds a token. A key may consume less than its account, so it
        commits only what it has reserved itself."""
        return f"{self.id}\0{self.key_id}" if self.key_id else self.id


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a new token; empty means not bound.

    :param audience: ids or addresses of the only parties that may consume it
    :param subject: the party it speaks for; empty means its owner
    :param data: JSON text for the consumer
    :param bind: hex SHA-256 of the approved action
    :param asked: the request's own words for its audience, which an idempotency key stands for: a
        repeat may find other ids for them; empty where they are ``audience``
    :param require_subject: whether a presenter must name the subject
    :param issued_with: the id of the owner's key; empty for a person
    """

    purpose: str = ""
    audience: tuple[str, ...] = ()
    subject: str = ""
    data: str = ""
    bind: str = ""
    asked: tuple[str, ...] = ()
    require_subject: bool = False
    issued_with: str = ""


UNBOUND = Terms()


@dataclass(frozen=True, slots=True)
class Presented:
    """A token's text, and the terms that its presenter expects.

    :param issuers: the only owners whose token it may be; empty means any
    :param asked: the request's own words for them, as in :class:`Terms`
    :param room: the most bytes of data that it can pass on; 0 means any
    """

    text: str = field(repr=False)
    purpose: str = ""
    subject: str = ""
    bind: str = ""
    issuers: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    room: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """A new token, or (``replayed``) an earlier one, as it is at ``now``. ``text`` is not printed.

    :param audience: the ids or addresses that it is bound to
    """

    id: str
    created_at: datetime
    expires_at: datetime
    now: datetime
    text: str = field(repr=False)
    audience: tuple[str, ...] = ()
    state: State = State.ACTIVE
    replayed: bool = False

    @property
    def life_left(self) -> timedelta:
        """The time for which it may still be used; none where its state forbids that."""
        if self.state not in (State.ACTIVE, State.RESERVED):
            return timedelta(0)
        return max(timedelta(0), self.expires_at - self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A token that was released or revoked.

    :param issued_with: the id of the key that created it, where that is known
    """

    id: str
    owner: str
    purpose: str
    issued_with: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Named):
    """The fields common to a consumed and a reserved token."""

    subject: str
    data: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed(Grant):
    """The one first success of a token, or (``replayed``) its replayed response."""

    consumed_at: datetime
    consumed_with: str | None = None
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved(Grant):
    """A token held for one party until ``lease_expires_at``. ``text`` is not printed.

    :param replayed: whether an earlier call with its idempotency key has reserved it
    """

    lease_expires_at: datetime
    text: str = field(repr=False)
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """The public state of a token. Nothing in it is secret.

    :param issued_with: the id of the key that created it; None for a person
    :param consumed_with: the same of its consume
    """

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
    issued_with: str | None = None
    consumed_with: str | None = None


@dataclass(frozen=True, slots=True)
class Introspection:
    """An active token, as its holder may see it."""

    receipt: Receipt
    audience: tuple[str, ...]
    is_bound: bool
    expires_in: float


@dataclass(frozen=True, slots=True)
class Page:
    """Receipts of an owner, newest first, and the cursor of the next page ("" at the end)."""

    items: tuple[Receipt, ...]
    next_cursor: str


def moment(milliseconds: int | bytes) -> datetime:
    """Read a time of the server's clock, in milliseconds since 1970."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
