"""Accounts: register, log in, and see who one is."""

from __future__ import annotations

from typing import Any

from flask_jwt_extended import create_access_token
from flask_smorest import Blueprint
from sqlalchemy import exc as database
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from tokenservice.auth.callers import caller
from tokenservice.auth.emails import masked
from tokenservice.auth.login_limits import limited_login
from tokenservice.auth.models import User
from tokenservice.auth.passwords import TooManyWaiting
from tokenservice.extensions import config, db, passwords
from tokenservice.postgres.timeouts import asking
from tokenservice.telemetry import logs
from tokenservice.web import schemas
from tokenservice.web.limits import by_address, limited
from tokenservice.web.openapi import BEARER, LOGIN_BODY, WITH_BODY, WITH_CALLER, problems
from tokenservice.web.problems import Problem

blueprint = Blueprint("auth", __name__, url_prefix="/auth", description="Accounts")
blueprint.ARGUMENTS_PARSER = schemas.parser


@blueprint.route("/register", methods=["POST"])
@limited("register", by_address)
@blueprint.arguments(schemas.Registration())
@blueprint.response(201, schemas.Account())
@blueprint.doc(
    operationId="register",
    responses=problems(*WITH_BODY, "email_taken", "database_unavailable", "busy"),
)
def register(given: dict[str, str]) -> User:
    """Open an account"""
    opened = insert(User).values(
        nombre=given["nombre"],
        correo=given["correo"],
        password_hash=passwords.hash(given["password"]),
    )
    # The database decides: a look before the insert would let two at once both pass. And without
    # an error, which Postgres would write into its log with the address and the hash.
    unless_taken = opened.on_conflict_do_nothing(index_elements=["correo"])
    with asking():
        user = db.session.scalar(unless_taken.returning(User))
        db.session.commit()
    if user is None:
        raise Problem("email_taken")
    logs.note("auth.registered", user_id=str(user.id), correo=masked(user.correo))
    return user


@blueprint.route("/login", methods=["POST"])
@limited_login
@schemas.parser.use_args(schemas.Credentials(), location="credentials")
@blueprint.response(200, schemas.AccessToken())
@blueprint.doc(
    operationId="login",
    requestBody=LOGIN_BODY,
    responses=problems(*WITH_BODY, "invalid_credentials", "database_unavailable", "busy"),
)
def login(given: dict[str, str]) -> dict[str, Any]:
    """Log in with JSON, or with the OAuth 2 password form"""
    with asking():
        user = db.session.scalar(select(User).where(User.correo == given["correo"]))
    matches = passwords.verify(user.password_hash if user else None, given["password"])
    # One answer, after the same work, for a wrong password, a disabled account and no account
    # at all (ASVS 5.0 V6.3.8).
    if user is None or not matches or not user.is_active:
        logs.note("auth.login_failed", correo=masked(given["correo"]))
        raise Problem("invalid_credentials")
    if passwords.needs_rehash(user.password_hash):
        rehash(user, given["password"])
    logs.note("auth.login", user_id=str(user.id))
    return {
        "access_token": create_access_token(identity=str(user.id)),
        "token_type": "bearer",
        "expires_in": config.access_token_expire_minutes * 60,
    }


def rehash(user: User, password: str) -> None:
    """Keep the password under today's parameters; a login does not fail for it."""
    # Only in place of the hash that was verified: it may have been changed meanwhile.
    same = (User.id == user.id, User.password_hash == user.password_hash)
    try:
        hashed = passwords.hash(password)
        with asking():
            db.session.execute(update(User).where(*same).values(password_hash=hashed))
            db.session.commit()
    except (database.SQLAlchemyError, TooManyWaiting) as error:
        logs.log.warning("auth.rehash_failed", why=type(error).__name__)


@blueprint.route("/me")
@blueprint.response(200, schemas.Account())
@blueprint.doc(
    operationId="me",
    security=BEARER,
    responses=problems(*WITH_CALLER),
)
def me() -> User:
    """See the account that is calling"""
    with asking():
        user = db.session.get(User, caller().id)
    if user is None:
        raise Problem("access_token_invalid")
    return user
