"""The table of the audit trail. No HTTP and no JSON here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Index, String, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tokenservice.extensions import db


class AuditEvent(db.Model):  # type: ignore[name-defined,misc]
    """A change, and who made it. Ids alone, which lead to nobody once the account is erased.

    Triggers keep the table append-only (migration 0006). No foreign keys: an event outlives what it
    is about.

    :ivar id: numbers from one server, so that events of one moment have an order. A change that was
        rolled back leaves a gap.
    :ivar at: by the clock of Postgres, which all workers share
    :ivar actor_kind: ``account``, ``operator`` or ``service``
    :ivar actor_id: the id of the account, or the operator's name at the system
    :ivar key_id: the service key with which the account acts
    :ivar target_kind: ``account``, ``session``, ``key`` or ``token``; None for several or none
    :ivar account_id: the account that it is about: the target, or the owner of the target
    :ivar facts: names, numbers and scopes; never a secret, never an address of an account
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_with_address", "at", postgresql_where=text("address IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp(), index=True
    )
    action: Mapped[str] = mapped_column(String(40))
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[str | None] = mapped_column(String(64), index=True)
    key_id: Mapped[str | None] = mapped_column(String(18), index=True)
    target_kind: Mapped[str | None] = mapped_column(String(10))
    target_id: Mapped[str | None] = mapped_column(String(64), index=True)
    account_id: Mapped[str | None] = mapped_column(String(64), index=True)
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(128))
    reason: Mapped[str | None] = mapped_column(String(500))
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
