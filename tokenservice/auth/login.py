"""Log in with a password."""

from __future__ import annotations

from typing import Any

from flask import Request, g
from sqlalchemy import exc as database
from sqlalchemy import select, update

from tokenservice.auth import sessions
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.emails import masked
from tokenservice.auth.login_limits import limited_login
from tokenservice.auth.models import User
from tokenservice.auth.passwords import TooManyWaiting, passwords
from tokenservice.auth.schemas import LoginRequest, LoginResponse
from tokenservice.extensions import db
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import audit, logs
from tokenservice.telemetry.audit import audited
from tokenservice.web.bodies import FORM, BodyParser, examples_of
from tokenservice.web.problems import Problem
from tokenservice.web.views import hashing, operation, public

#: The form is described by the scheme ``password``, where standard clients look for it. With two
#: media types for one body openapi-python-client writes a module that cannot be imported.
BODY = {"schema": LoginRequest, "examples": examples_of(LoginRequest)}


class CredentialsParser(BodyParser):
    """Read a login as JSON, or as the password form of OAuth 2 (RFC 6749 section 4.3.2)."""

    def load_json(self, req: Request, schema: Any) -> Any:
        if req.mimetype != FORM:
            return super().load_json(req, schema)
        names = {"username": "correo", "password": "password"}
        return {field: req.form[name] for name, field in names.items() if name in req.form}


@blueprint.route("/login", methods=["POST"])
@audited
@public
@hashing
@limited_login
@CredentialsParser().use_args(LoginRequest())
@blueprint.response(200, LoginResponse())
@blueprint.doc(requestBody={"required": True, "content": {"application/json": BODY}})
@operation("login", "invalid_credentials", "database_unavailable", "busy")
def login(given: dict[str, str]) -> dict[str, Any]:
    """Log in with JSON, or with the OAuth 2 password form

    While Postgres is read-only there is no refresh_token.
    """
    user = verified(given)
    try:
        opened = sessions.start(user)
    except sessions.PasswordChanged:
        # Or it was hashed anew, by another login at the same time.
        user = verified(given)
        opened = sessions.start(user)
    logs.note("auth.login", user_id=str(user.id), session_id=str(opened.id) if opened else None)
    return sessions.pair(user.id, opened)


def verified(given: dict[str, str]) -> User:
    """The account with these credentials.

    :raises Problem: there is none
    """
    with asking():
        user = db.session.scalar(select(User).where(User.correo == given["correo"]))
    stored, waited = user.password_hash if user else None, g.get("waited", 0.0)
    matches = passwords.verify(stored, given["password"], waited)
    # One response, after the same work, for a wrong password, a disabled account and no account
    # at all (ASVS 5.0 V6.3.8).
    if user is None or not matches or not user.is_active:
        logs.note("auth.login_failed", correo=masked(given["correo"]))
        audit.note(attempted_id=str(user.id) if user else None)
        raise Problem("invalid_credentials")
    if passwords.needs_rehash(user.password_hash):
        rehash(user, given["password"])
    return user


def rehash(user: User, password: str) -> None:
    """Store the password under today's parameters; a failure does not fail the login."""
    # Only in place of the verified hash: it may have changed meanwhile.
    same = (User.id == user.id, User.password_hash == user.password_hash)
    try:
        hashed = passwords.hash(password)
        with asking():
            done = db.session.execute(update(User).where(*same).values(password_hash=hashed))
            db.session.commit()
        if done.rowcount:  # type: ignore[attr-defined]
            user.password_hash = hashed
    except (database.SQLAlchemyError, TooManyWaiting) as error:
        logs.log.warning("auth.rehash_failed", why=type(error).__name__)
