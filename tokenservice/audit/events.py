"""Writing events: each in the transaction of the change that it tells.

A change that is rolled back leaves no event, and where no event can be written there is no change.
Refused calls have no events: a stranger could fill the table.
"""

from __future__ import annotations

from typing import Any, Literal

from flask import has_request_context
from sqlalchemy import Connection, insert

from tokenservice.audit import operators
from tokenservice.audit.models import AuditEvent
from tokenservice.extensions import db
from tokenservice.telemetry import logs
from tokenservice.telemetry.calls import call

#: What an event may tell. A line of the log about the same has the same name, but for ``auth.``,
#: where the event names what was changed.
Action = Literal[
    "account.registered",
    "account.created",
    "accounts.seeded",
    "account.disabled",
    "account.enabled",
    "account.exported",
    "account.erased",
    "password.changed",
    "password.reset",
    "session.opened",
    "session.ended",
    "session.reused",
    "sessions.purged",
    "keys.purged",
    "key.created",
    "key.changed",
    "key.revoked",
    "token.created",
    "token.revoked",
    "token.revoked_all",
    "audit.purged",
    "database.upgraded",
    "database.downgraded",
]


def record(
    action: Action,
    *,
    account: object = None,
    session: object = None,
    key: str | None = None,
    token: str | None = None,
    into: Connection | None = None,
    **facts: Any,
) -> None:
    """Write an event into the open transaction. Once this returns, only the commit is left.

    The actor is that of this call or command.

    :param account: the account that it is about, or the owner of the session, key or token
    :param into: the connection of the transaction, in place of the session's
    :raises sqlalchemy.exc.SQLAlchemyError: Postgres does not take it
    """
    targets = {"token": token, "key": key, "session": session, "account": account}
    kind, target = next(
        ((kind, str(target)) for kind, target in targets.items() if target), (None, None)
    )
    row = {
        "action": action,
        "target_kind": kind,
        "target_id": target,
        "account_id": str(account) if account else None,
        "facts": {name: value for name, value in facts.items() if value} or None,
        **(of_call(action, account, key) if has_request_context() else of_command()),
    }
    (into or db.session).execute(insert(AuditEvent).values(row))


def of_call(action: Action, account: object, key: str | None) -> dict[str, Any]:
    """The actor of a call.

    Without an authenticated caller it is the account itself, which registers, logs in or shows a
    text of its own.
    """
    asked = call()
    if action == "session.reused":  # The presenter of a spent token may be its owner or a thief.
        actor = {"actor_kind": "service", "actor_id": None}
    elif asked.caller:
        actor = {"actor_kind": "account", "actor_id": asked.caller.id}
        key = asked.caller.key_id
    else:
        actor = {"actor_kind": "account", "actor_id": str(account)}
    return {
        **actor,
        "key_id": key or None,
        "address": asked.client_address or None,
        "request_id": logs.request_id(),
    }


def of_command() -> dict[str, Any]:
    """The actor of a command."""
    return {
        "actor_kind": "operator",
        "actor_id": operators.name(),
        "reason": operators.reason_given(),
    }
