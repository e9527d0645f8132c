"""Register an account, and read one's own."""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy.dialects.postgresql import insert

from tokenservice.audit import events
from tokenservice.auth.authentication import caller
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.emails import masked
from tokenservice.auth.models import User
from tokenservice.auth.passwords import passwords
from tokenservice.auth.schemas import AccountResponse, RegisterRequest
from tokenservice.extensions import config, db
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import logs
from tokenservice.web.limits import by_address, limited
from tokenservice.web.problems import Problem
from tokenservice.web.views import hashing, operation, public


def where_open(view: Any) -> Any:
    """Refuse a view where ``registration`` is closed, whatever its request says."""

    @functools.wraps(view)
    def judged(*args: Any, **kwargs: Any) -> Any:
        if config.registration == "closed":
            raise Problem("registration_closed")
        return view(*args, **kwargs)

    return judged


@blueprint.route("/register", methods=["POST"])
@public
@hashing
@where_open
@limited("register", by_address)
@blueprint.arguments(RegisterRequest())
@blueprint.response(201, AccountResponse())
@operation("register", "registration_closed", "email_taken", "database_unavailable", "busy")
def register(given: dict[str, str]) -> User:
    """Open an account

    Its *correo* is kept in its canonical spelling. Where registration is closed, the operator opens
    accounts.
    """
    row = insert(User).values(
        nombre=given["nombre"],
        correo=given["correo"],
        password_hash=passwords.hash(given["password"]),
    )
    # The database decides: a look before the insert would let two at once both pass. Without an
    # error, which Postgres would write into its log with the address and the hash.
    unless_taken = row.on_conflict_do_nothing(index_elements=["correo"])
    with asking():
        user = db.session.scalar(unless_taken.returning(User))
        if user:
            events.record("account.registered", account=user.id)
        db.session.commit()
    if user is None:
        raise Problem("email_taken")
    logs.note("auth.registered", user_id=str(user.id), correo=masked(user.correo))
    return user


@blueprint.route("/me")
@blueprint.response(200, AccountResponse())
@operation("me")
def me() -> User:
    """See the account that is calling

    Not for service keys.
    """
    with asking():
        user = db.session.get(User, caller().id)
    if user is None:
        raise Problem("access_token_invalid")
    return user
