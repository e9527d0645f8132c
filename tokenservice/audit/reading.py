"""Reading events, oldest first, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, text

from tokenservice.audit.models import AuditEvent
from tokenservice.extensions import db

BATCH = 500


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event, whatever keeps it. Its members are the columns of the table."""

    at: datetime
    action: str
    actor_kind: str | None = None
    actor_id: str | None = None
    key_id: str | None = None
    target_kind: str | None = None
    target_id: str | None = None
    account_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    reason: str | None = None
    facts: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The events that are asked for: those that meet all conditions that are given.

    :param token: the id of a token
    :param account: the id of an account that acted, or that they are about
    :param key: the id of a key that acted, or that they are about
    :param since: the time of the first
    """

    token: str = ""
    account: str = ""
    key: str = ""
    since: datetime | None = None


def stored(asked: Question) -> Iterator[Event]:
    """The events in the table, by their times."""
    columns = [getattr(AuditEvent, field.name) for field in dataclasses.fields(Event)]
    found = select(*columns).where(*conditions(asked)).order_by(AuditEvent.at, AuditEvent.id)
    # Sorting the events of years takes longer than a request may.
    db.session.execute(text("SET LOCAL statement_timeout = 0"))
    for row in db.session.execute(found.execution_options(yield_per=BATCH)):
        yield Event(**row._mapping)


def conditions(asked: Question) -> Iterator[ColumnElement[bool]]:
    if asked.token:
        yield is_about("token", asked.token)
    if asked.account:
        acts = and_(AuditEvent.actor_kind == "account", AuditEvent.actor_id == asked.account)
        yield or_(AuditEvent.account_id == asked.account, acts)
    if asked.key:
        yield or_(AuditEvent.key_id == asked.key, is_about("key", asked.key))
    if asked.since:
        yield AuditEvent.at >= asked.since


def is_about(kind: str, target: str) -> ColumnElement[bool]:
    return and_(AuditEvent.target_kind == kind, AuditEvent.target_id == target)
