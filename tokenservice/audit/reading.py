"""Reading events and the lines of the trail, oldest first, in bounded memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, text

from tokenservice.audit.models import AuditEvent
from tokenservice.extensions import db
from tokenservice.telemetry.audit import START

BATCH = 500
#: The members of a line of the trail without a column.
FACTS = (
    *("code", "field", "limit", "why", "attempted", "purpose", "issued_with", "expires_in"),
    *("replayed", "endpoint", "status"),
)


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
    :param until: the time before which the last one was
    """

    token: str = ""
    account: str = ""
    key: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def finds(self, event: Event) -> bool:
        """Whether a line of the trail meets all conditions, as :func:`conditions` asks Postgres."""
        facts = event.facts or {}
        return (
            (not self.token or event.target_id == self.token)
            and (not self.account or self.account in (event.account_id, event.actor_id))
            and (not self.key or self.key in (event.key_id, facts.get("issued_with")))
            and (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
        )


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
    if asked.until:
        yield AuditEvent.at < asked.until


def is_about(kind: str, target: str) -> ColumnElement[bool]:
    return and_(AuditEvent.target_kind == kind, AuditEvent.target_id == target)


def told(asked: Question, lines: Iterable[str]) -> Iterator[Event]:
    """The lines of a trail, in their order, which is that of their times but for moments.

    Other text among them, as the lines of the log are, counts as nothing.
    """
    for given in lines:
        _, start, rest = given.partition(START)
        if start:
            try:
                event = of_line(json.loads(start + rest))
            except (ValueError, KeyError):  # The worker died in the middle of it.
                continue
            if asked.finds(event):
                yield event


def of_line(line: dict[str, Any]) -> Event:
    """A line of the trail, in the columns of the table."""
    token, attempted = line.get("token_id"), line.get("attempted_id")
    kind = "token" if token else "account" if attempted else None
    return Event(
        at=datetime.fromisoformat(line["timestamp"]),
        action=line["event"],
        actor_kind="account" if "user_id" in line else None,
        actor_id=line.get("user_id"),
        key_id=line.get("key_id"),
        target_kind=kind,
        target_id=token or attempted,
        account_id=line.get("issued_by") or attempted,
        address=line.get("client_address"),
        request_id=line["request_id"],
        facts={name: line[name] for name in FACTS if line.get(name)},
    )
