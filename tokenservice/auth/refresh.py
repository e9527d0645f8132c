"""Refresh, list and end sessions."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import select

from tokenservice.auth import sessions
from tokenservice.auth.authentication import caller
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.models import Session
from tokenservice.auth.refresh_tokens import refresh_tokens
from tokenservice.auth.schemas import LoginResponse, RefreshRequest, SessionsResponse
from tokenservice.extensions import db
from tokenservice.onetime.errors import TokenMalformed
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import logs
from tokenservice.telemetry.audit import audited
from tokenservice.web.limits import by_address, limited
from tokenservice.web.problems import Problem
from tokenservice.web.views import operation, public


@blueprint.route("/refresh", methods=["POST"])
@audited
@public
@limited("validate", by_address)
@blueprint.arguments(RefreshRequest())
@blueprint.response(200, LoginResponse())
@operation("refresh", "session_ended", "database_unavailable")
def refresh(given: dict[str, str]) -> dict[str, Any]:
    """Exchange a refresh token for its successor, and a new JWT

    Repeated within a minute it returns the same successor, as long as nobody has presented that.
    Later, the whole session ends.
    """
    try:
        opened = sessions.refresh(refresh_tokens.parse(given["refresh_token"]))
    except TokenMalformed:
        raise Problem("session_ended") from None
    except sessions.SessionEnded as ended:
        if ended.reused:
            logs.note("session.reused", session_id=str(ended.reused))
        raise Problem("session_ended") from None
    logs.note(
        "session.refreshed",
        user_id=str(opened.account),
        session_id=str(opened.id),
        replayed=opened.is_repeat,
    )
    return sessions.pair(opened.account, opened)


@blueprint.route("/logout", methods=["POST"])
@blueprint.response(204)
@operation("logout")
def logout() -> None:
    """End the session of this JWT

    A JWT without a session, of a login while Postgres was read-only, stays valid until it expires.
    """
    if caller().session:
        end("logout", Session.id == uuid.UUID(caller().session))


@blueprint.route("/logout-all", methods=["POST"])
@blueprint.response(204)
@operation("logoutAll")
def logout_all() -> None:
    """End all sessions of the account

    Their JWTs are refused within two seconds, the one of this call included.
    """
    end("logout", Session.user_id == uuid.UUID(caller().id))


@blueprint.route("/sessions")
@blueprint.response(200, SessionsResponse())
@operation("listSessions")
def list_sessions() -> dict[str, Any]:
    """List the open sessions of the account, newest first

    With the program and the address of the login of each.
    """
    of_account = Session.user_id == uuid.UUID(caller().id)
    with asking():
        rows = db.session.scalars(
            select(Session).where(of_account, sessions.is_open()).order_by(*sessions.NEWEST_FIRST)
        ).all()
    return {"items": [vars(row) | {"current": str(row.id) == caller().session} for row in rows]}


@blueprint.route("/sessions/<uuid:session_id>", methods=["DELETE"])
@blueprint.response(204)
@operation("endSession", "not_found")
def end_session(session_id: uuid.UUID) -> None:
    """End a session of the account, now or before

    Its JWTs are refused within two seconds.
    """
    own = (Session.id == session_id, Session.user_id == uuid.UUID(caller().id))
    with asking():
        is_own = db.session.scalar(select(Session.id).where(*own)) is not None
    if not is_own:
        raise Problem("not_found")
    end("ended", *own)


def end(why: str, *which: Any) -> None:
    with asking():
        count = sessions.end(why, *which)
        db.session.commit()
    logs.note("session.ended", why=why, count=count)
