"""Erase an account, and export what is stored of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from sqlalchemy import func, select, update

from tokenservice.audit import events, reading
from tokenservice.auth import sessions
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.login_limits import limited_password
from tokenservice.auth.models import ServiceKey, Session, User
from tokenservice.auth.new_passwords import account_with_password
from tokenservice.auth.schemas import (
    AccountResponse,
    EraseRequest,
    KeyResponse,
    StoredSessionResponse,
)
from tokenservice.extensions import db, tokens
from tokenservice.onetime.values import Receipt
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import logs
from tokenservice.telemetry.audit import audited
from tokenservice.web.views import hashing, operation

#: Nobody registers there: ``.invalid`` is reserved (RFC 2606), and refused as an address.
NOWHERE = "@erased.invalid"
ACCOUNT, STORED_SESSION, STORED_KEY = (
    AccountResponse(),
    StoredSessionResponse(exclude=["current"]),
    KeyResponse(),
)


@blueprint.route("/me/erase", methods=["POST"])
@audited
@hashing
@limited_password
@blueprint.arguments(EraseRequest())
@blueprint.response(204)
@operation("eraseMe", "invalid_credentials", "store_unavailable", "database_unavailable", "busy")
def erase_me(given: dict[str, str]) -> None:
    """Erase one's account for good

    Its name and address go, its sessions and keys end, and its unused tokens are revoked. Its id
    stays: it stands in receipts and in the log.
    """
    user = account_with_password(given["password"])
    with asking():
        erase(user.id)
    logs.note("auth.erased")


def erase(user_id: uuid.UUID) -> None:
    """Erase an account. Where Redis or Postgres fails it can be repeated.

    :raises StoreUnavailable: nothing is erased
    """
    blank = {
        "nombre": "",
        "correo": f"{user_id}{NOWHERE}",
        "password_hash": "",
        "is_active": False,
    }
    unsynchronized = {"synchronize_session": False}
    sessions.end_all("erased", user_id)
    db.session.execute(
        update(Session).where(Session.user_id == user_id).values(user_agent="", address=""),
        execution_options=unsynchronized,
    )
    db.session.execute(
        update(User).where(User.id == user_id).values(blank), execution_options=unsynchronized
    )
    db.session.execute(
        update(ServiceKey)
        .where(ServiceKey.user_id == user_id)
        .values(name="", revoked_at=func.coalesce(ServiceKey.revoked_at, func.now())),
        execution_options=unsynchronized,
    )
    events.record("account.erased", account=user_id)
    # Last before the commit: what Postgres refuses revokes no token.
    tokens.revoke_all(str(user_id), disable=True)
    db.session.commit()


def is_erased(user: User) -> bool:
    return user.correo.endswith(NOWHERE)


def receipts(owner: str, state: str = "", purpose: str = "") -> Iterator[Receipt]:
    """All receipts of the tokens of ``owner`` that are left, newest first."""
    cursor = ""
    while True:
        page = tokens.list_for(owner, cursor=cursor, state=state, purpose=purpose)
        yield from page.items
        cursor = page.next_cursor
        if not cursor:
            return


def export(user: User) -> dict[str, Any]:
    """All that is stored of an account, without secrets and their hashes."""
    rows = db.session.scalars(
        select(Session).where(Session.user_id == user.id).order_by(Session.created_at)
    )
    keys = db.session.scalars(select(ServiceKey).where(ServiceKey.user_id == user.id))
    return {
        "account": ACCOUNT.dump(user),
        "sessions": STORED_SESSION.dump(rows, many=True),
        "keys": STORED_KEY.dump(keys, many=True),
        # Without the names and the reasons of operators.
        "events": [
            {"at": event.at.isoformat(), "action": event.action, "address": event.address}
            for event in reading.stored(reading.Question(account=str(user.id)))
        ],
        "tokens": [
            {
                "id": receipt.id,
                "state": receipt.state,
                "subject": receipt.subject,
                "purpose": receipt.purpose,
                "created_at": receipt.created_at.isoformat(),
                "expires_at": receipt.expires_at.isoformat(),
            }
            for receipt in receipts(str(user.id))
        ],
    }
