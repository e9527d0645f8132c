"""The audience of a new token: an address becomes the id of its account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenservice.token.accounts import ids_of
from tokenservice.web.problems import Problem

#: Beside the members that were asked for, where the request allows an unregistered address.
ALLOWED = "*"


def audience_of(given: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The audience that a request asks for, and ``asked`` of :class:`Terms`: its own words for it.

    An id is taken as it is. An address costs a query.

    :raises Problem: an address has no account, and the request does not allow that
    :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away
    """
    named, is_allowed = tuple(given.get("audience", ())), given["allow_unregistered"]
    ids = ids_of(named)
    unregistered = {member for member in named if "@" in member} - ids.keys()
    if unregistered and not is_allowed:
        raise Problem(
            "validation_failed",
            errors={
                "audience": {
                    place: ["No account has this address, and allow_unregistered is not true."]
                    for place, member in enumerate(named)
                    if member in unregistered
                }
            },
        )
    audience = tuple(dict.fromkeys(ids.get(member, member) for member in named))
    return audience, (*named, ALLOWED) if is_allowed else named
