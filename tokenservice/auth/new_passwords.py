"""Change a password with the old one, or with a token that an operator made."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import update

from tokenservice.audit import events
from tokenservice.auth import passwords, sessions
from tokenservice.auth.authentication import caller
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.login_limits import limited_password
from tokenservice.auth.models import User
from tokenservice.auth.schemas import PasswordRequest, ResetRequest
from tokenservice.extensions import config, db, tokens
from tokenservice.onetime.errors import TokenAlreadyUsed, TokenUnknown
from tokenservice.onetime.format import derived_key, derived_secret, digest
from tokenservice.onetime.values import Consumed, Created, Party, Presented, Terms
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import logs
from tokenservice.telemetry.audit import audited
from tokenservice.telemetry.calls import call
from tokenservice.web.limits import by_address, limited
from tokenservice.web.problems import RETRY_SOON, Problem
from tokenservice.web.views import hashing, idempotency_key, operation, public, repeatable

#: The owner and the audience of a reset token. No account has this id, and no request may name it.
SERVICE = Party("token-service")
PURPOSE = "auth.reset"
RESET_LIFE = timedelta(minutes=30)


@blueprint.route("/password", methods=["POST"])
@audited
@hashing
@limited_password
@blueprint.arguments(PasswordRequest())
@blueprint.response(204)
@operation("changePassword", "invalid_credentials", "database_unavailable", "busy")
def change_password(given: dict[str, str]) -> None:
    """Change one's password

    All other sessions end. Service keys stay.
    """
    user = account_with_password(given["old"])
    demand_strength(given["new"], user, "new")
    hashed = passwords.passwords.hash(given["new"])
    with asking():
        if not set_password(user, hashed):  # Another change came first.
            raise Problem("invalid_credentials")
        sessions.end_all("password", user.id, but=caller().session)
        events.record("password.changed", account=user.id)
        db.session.commit()
    logs.note("auth.password_changed")


def account_with_password(password: str) -> User:
    """The account of this call, whose password was given once more.

    :raises Problem: it is another
    """
    with asking():
        user = db.session.get(User, uuid.UUID(caller().id))
    if (
        not passwords.passwords.verify(user.password_hash if user else None, password)
        or user is None
    ):
        raise Problem("invalid_credentials")
    return user


def demand_strength(password: str, user: User, field: str) -> None:
    """:raises Problem: the password is easy to guess for this account"""
    if passwords.is_guessable(password, [user.nombre, user.correo]):
        raise Problem("validation_failed", errors={field: [passwords.TOO_EASY]})


def set_password(user: User, hashed: str) -> bool:
    """Replace the hash of an account, unless that changed or the account was disabled."""
    done = db.session.execute(
        update(User)
        .where(*sessions.as_verified(user))
        .values(password_hash=hashed)
        .execution_options(synchronize_session=False)
    )
    return bool(done.rowcount)  # type: ignore[attr-defined]


def new_reset_token(user: User) -> Created:
    """A token with which the password of an account can be set, once and in place of this one."""
    terms = Terms(PURPOSE, (SERVICE.id,), subject=str(user.id), data=fingerprint(user))
    return tokens.create(SERVICE.id, life_seconds=int(RESET_LIFE.total_seconds()), terms=terms)


def fingerprint(user: User) -> str:
    """What a reset token replaces: a repeat does not undo a later change."""
    return digest(user.password_hash)


def account_of(owner: str, subject: str) -> User:
    """The account that a token of the service is for.

    :raises TokenUnknown: it is no token of the service, or the account is not active
    """
    with asking():
        user = db.session.get(User, uuid.UUID(subject)) if owner == SERVICE.id else None
    if user is None or not user.is_active:
        raise TokenUnknown
    return user


def repeat_keys(token: str, password: str) -> list[str]:
    """The idempotency key of this reset under each secret key; the first is for new resets.

    A repeat has the same password. Its hash alone could be guessed in Redis.
    """
    given = idempotency_key(call().given.get("HTTP_IDEMPOTENCY_KEY"))
    if not given:
        return [""]
    keys = [derived_key(b"password resets", secret.encode()) for secret in config.secret_keys]
    return [derived_secret(key, given, token, password) for key in keys]


def consumed(presented: Presented, keys: list[str]) -> Consumed:
    """What a reset token was consumed with, under one of ``keys``.

    :raises OneTimeError: it is refused, or was consumed under another key
    """
    for key in keys[:-1]:
        with suppress(TokenAlreadyUsed):
            return tokens.validate(presented, SERVICE, key=key)
    return tokens.validate(presented, SERVICE, key=keys[-1])


@blueprint.route("/password/reset", methods=["POST"])
@audited
@public
@hashing
@repeatable
@limited("login", by_address)
@blueprint.arguments(ResetRequest())
@blueprint.response(204)
@operation(
    "resetPassword",
    *("token_malformed", "token_unknown", "token_already_used", "token_expired", "token_revoked"),
    *("token_lost", "store_unavailable", "database_unavailable", "busy"),
)
def reset_password(given: dict[str, str]) -> None:
    """Set a password with a token of `flask users reset-token`

    The password is judged before the token is consumed. All sessions end. Service keys stay.
    """
    presented = Presented(given["token"], PURPOSE)
    keys = repeat_keys(given["token"], given["password"])
    seen = tokens.introspect(given["token"], SERVICE)
    if seen is None:
        # Nothing is consumed here: it is refused, or it was consumed under this key.
        done = consumed(presented, keys)
        user = account_of(done.owner, done.subject)
        if done.data != fingerprint(user):
            if passwords.passwords.verify(user.password_hash, given["password"]):
                return  # The response was lost, and no more.
            raise TokenUnknown
    else:
        user = account_of(seen.receipt.owner, seen.receipt.subject)
    demand_strength(given["password"], user, "password")
    hashed = passwords.passwords.hash(given["password"])
    with asking():
        if not set_password(user, hashed):  # Another change came first.
            raise Problem("busy", headers=RETRY_SOON)
        sessions.end_all("reset", user.id)
        events.record("password.reset", account=user.id)
        # Last before the commit: what Postgres refuses consumes no token.
        if tokens.validate(presented, SERVICE, key=keys[0]).data != fingerprint(user):
            raise TokenUnknown
        db.session.commit()
    logs.note("auth.password_reset", user_id=str(user.id))
