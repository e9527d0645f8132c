"""Sessions: what a login opens and refresh tokens prolong, in Postgres.

Each step is one transaction, and a lock on the row decides between steps that come at once.
"""

from __future__ import annotations

import hmac
import re
import uuid
from datetime import timedelta
from typing import Any, NamedTuple

from flask import request
from flask_jwt_extended import create_access_token
from psycopg2.errors import ReadOnlySqlTransaction, UndefinedTable
from sqlalchemy import ColumnElement, and_, func, not_, select, true, update
from sqlalchemy import exc as database

from tokenservice.audit import events
from tokenservice.auth.models import Session, User, uuid7
from tokenservice.auth.refresh_tokens import RefreshToken, refresh_tokens
from tokenservice.extensions import config, db
from tokenservice.postgres.breaker import asking
from tokenservice.web import addresses

#: The time in which a spent token is answered again, after a lost response.
REPEAT_SECONDS = 60
#: The most open sessions of an account. One more ends the oldest.
MOST = 50
NEWEST_FIRST = (Session.created_at.desc(), Session.id.desc())
UNPRINTABLE = re.compile(r"[^ -~]")
USER_AGENT = 200


class PasswordChanged(Exception):
    """The account, or the hash of its password, is no longer as it was verified."""


class SessionEnded(Exception):
    """There is no open session for this refresh token.

    :ivar reused: the id of a session that ended because the token was spent before
    """

    def __init__(self, reused: uuid.UUID | None = None) -> None:
        super().__init__()
        self.reused = reused


class Opened(NamedTuple):
    """An open session, as it is told to its client.

    :param life_left: the time until it ends whatever happens
    :param is_repeat: whether an earlier response told the same
    """

    id: uuid.UUID
    account: uuid.UUID
    token: RefreshToken
    life_left: timedelta
    is_repeat: bool = False


def longest() -> timedelta:
    return timedelta(days=config.session_max_days)


def is_open() -> ColumnElement[bool]:
    """Whether a session has neither been ended nor timed out."""
    idle = timedelta(days=config.session_idle_days)
    return and_(
        Session.ended_at.is_(None),
        Session.rotated_at > func.now() - idle,
        Session.created_at > func.now() - longest(),
    )


def as_verified(user: User) -> tuple[ColumnElement[bool], ...]:
    """Whether an account is still active, with the password that was verified."""
    return (
        User.id == user.id,
        User.is_active.is_(True),
        User.password_hash == user.password_hash,
    )


def start(user: User) -> Opened | None:
    """Open a session of an account whose password was verified.

    None on a read-only Postgres, and on a schema from before sessions or events. Such a login has
    no event either.

    :raises PasswordChanged: it was changed meanwhile, which has ended all sessions but this
    """
    token = refresh_tokens.first(uuid7())
    row = Session(
        id=token.session,
        user_id=user.id,
        token_hash=token.verifier,
        user_agent=UNPRINTABLE.sub("", request.headers.get("User-Agent", ""))[:USER_AGENT],
        address=str(addresses.of_client() or ""),
    )
    # Not a column: the breaker takes a locked account for a Postgres that is away.
    locked = select(true()).where(*as_verified(user)).with_for_update(key_share=True)
    of_account = Session.user_id == user.id
    too_many = select(Session.id).where(of_account, is_open()).order_by(*NEWEST_FIRST).offset(MOST)
    try:
        with asking():
            if db.session.scalar(locked) is None:
                raise PasswordChanged
            db.session.add(row)
            db.session.flush()
            end("too many", Session.id.in_(too_many))
            events.record("session.opened", session=row.id, account=user.id)
            db.session.commit()
    except database.DBAPIError as error:
        if isinstance(error.orig, ReadOnlySqlTransaction | UndefinedTable):
            return None
        raise
    return Opened(token.session, user.id, token, longest())


def refresh(token: RefreshToken) -> Opened:
    """Spend a refresh token for its successor, or tell that again.

    It is told again for a minute, and only until the successor is first presented: a thief could
    walk the chain otherwise. A token that comes later was stolen, or its successor was, and the
    session ends.

    :raises SessionEnded: it has ended, now or before
    """
    with asking():
        found = db.session.execute(
            select(Session, User.is_active, is_open(), func.now())
            .join(User, User.id == Session.user_id)
            .where(Session.id == token.session)
            .with_for_update(of=Session)
        ).one_or_none()
        if found is None or not (found[1] and found[2]):
            raise SessionEnded
        row, _, _, now = found
        successors = list(refresh_tokens.successors(token))
        told = next((each for each in successors if same(row.token_hash, each)), None)
        life_left = row.created_at + longest() - now
        if same(row.token_hash, token):
            row.token_hash, row.rotated_at = successors[0].verifier, func.now()
        elif told is None or now - row.rotated_at > timedelta(seconds=REPEAT_SECONDS):
            end("reused", Session.id == row.id)
            db.session.commit()
            raise SessionEnded(row.id)
        opened = Opened(row.id, row.user_id, told or successors[0], life_left, told is not None)
        db.session.commit()
    return opened


def same(stored: bytes, token: RefreshToken) -> bool:
    return hmac.compare_digest(stored, token.verifier)


def end(why: str, *which: ColumnElement[bool]) -> int:
    """End sessions, before the commit of the caller; return how many were not ended."""
    ending = (
        update(Session)
        .where(Session.ended_at.is_(None), *which)
        .values(ended_at=func.now(), ended_why=why)
        .returning(Session.id, Session.user_id)
        .execution_options(synchronize_session=False)
    )
    ended = db.session.execute(ending).all()
    for session, account in ended:
        if why == "reused":
            events.record("session.reused", session=session, account=account)
        else:
            events.record("session.ended", session=session, account=account, why=why)
    return len(ended)


def end_all(why: str, user_id: uuid.UUID, *, but: str = "") -> int:
    """End the sessions of an account, all or all but one."""
    others = [not_(Session.id == uuid.UUID(but))] if but else []
    return end(why, Session.user_id == user_id, *others)


def pair(user_id: uuid.UUID, opened: Opened | None) -> dict[str, Any]:
    """The tokens of a login or of a refresh: a JWT, and where there is a session its own."""
    life = timedelta(minutes=config.access_token_expire_minutes)
    session: dict[str, str] = {}
    claims: dict[str, str] = {}
    if opened:
        life = min(life, opened.life_left)
        claims = {"sid": str(opened.id)}
        session = {"refresh_token": str(opened.token)}
    return {
        "access_token": create_access_token(str(user_id), False, life, claims),
        "token_type": "bearer",
        "expires_in": int(life.total_seconds()),
        **session,
    }
