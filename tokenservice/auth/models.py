"""The tables. No HTTP and no JSON here."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    func,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from tokenservice.auth import emails
from tokenservice.extensions import db


def uuid7() -> uuid.UUID:
    """A new UUIDv7 (RFC 9562 section 5.7): milliseconds first, then 74 random bits.

    Python has its own from 3.14 on.
    """
    stamp = time.time_ns() // 1_000_000
    value = (stamp & (2**48 - 1)) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


class User(db.Model):  # type: ignore[name-defined]
    """An account. ``correo`` is canonical; a constraint keeps it unique."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("correo"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    nombre: Mapped[str] = mapped_column(String(100))
    correo: Mapped[str] = mapped_column(String(emails.MAX_LENGTH))
    password_hash: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(server_default=true(), default=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Words(TypeDecorator[tuple[str, ...]]):
    """Words without spaces, as one text with a space between them."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str:
        return " ".join(value or ())

    def process_result_value(self, value: str | None, dialect: Any) -> tuple[str, ...]:
        return tuple((value or "").split())


class ServiceKey(db.Model):  # type: ignore[name-defined]
    """A key of an account, for a program. Its secret is kept as a hash alone.

    A change of a column that decides anything must be noted: see migrations 0003 and 0005.

    :ivar own_quota: whether its limits stand in place of its account's
    """

    __tablename__ = "service_keys"

    id: Mapped[str] = mapped_column(String(18), primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(100))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[tuple[str, ...]] = mapped_column(Words)
    purposes: Mapped[tuple[str, ...]] = mapped_column(Words, server_default="")
    cidrs: Mapped[tuple[str, ...]] = mapped_column(Words, server_default="")
    limit_create: Mapped[str | None] = mapped_column(String(64))
    limit_validate: Mapped[str | None] = mapped_column(String(64))
    own_quota: Mapped[bool] = mapped_column(server_default=false(), default=False)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_on: Mapped[date | None]

    @property
    def limits(self) -> dict[str, str]:
        """Its own rates, by the name of the limit."""
        own = {"create": self.limit_create, "validate": self.limit_validate}
        return {name: words for name, words in own.items() if words}


class Session(db.Model):  # type: ignore[name-defined]
    """What a login opens. Its refresh tokens are kept as hashes alone.

    Its end must be noted: see migration 0004.

    :ivar token_hash: that of the token to come, which tells its predecessor too
    """

    __tablename__ = "sessions"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    rotated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    user_agent: Mapped[str] = mapped_column(String(200), server_default="")
    address: Mapped[str] = mapped_column(String(45), server_default="")
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_why: Mapped[str | None] = mapped_column(String(20))


class AccountChange(db.Model):  # type: ignore[name-defined]
    """A note that a transaction changed an account. Triggers write it."""

    __tablename__ = "account_changes"

    xid: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
