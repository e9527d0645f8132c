"""The accounts that a request names: an address becomes the id of its account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from tokenservice.auth.models import User
from tokenservice.extensions import db
from tokenservice.postgres.breaker import asking


def ids_of(named: Sequence[str]) -> dict[str, str]:
    """The id of each address in ``named`` that has an account. An id costs no query.

    :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away
    """
    addresses = [member for member in named if "@" in member]
    if not addresses:
        return {}
    with asking():
        rows = db.session.execute(select(User.correo, User.id).where(User.correo.in_(addresses)))
        return {correo: str(user_id) for correo, user_id in rows}


def issuers_of(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of the issuers that a request accepts; none where it accepts all.

    An address without an account stays as it is, and is no issuer's.

    :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away
    """
    named = tuple(given.get("issued_by", ()))
    ids = ids_of(named)
    return tuple(ids.get(member, member) for member in named)
