"""Authentication: find the account of a bearer JWT, and cache it for 1.5 s.

Every view needs a caller unless it is marked :func:`~tokenservice.web.views.public`.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass

from flask import Flask, g, request
from sqlalchemy import exc as database

from tokenservice.auth.jwts import subject_of
from tokenservice.auth.models import User
from tokenservice.extensions import add, db, part
from tokenservice.onetime.values import Party
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS, asking, is_outage
from tokenservice.web.problems import Problem
from tokenservice.web.views import is_public

# RFC 6750 section 2.1. A list of several credentials is none of them.
CREDENTIALS = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: A deactivated account is out within two seconds: this, and the time of the query.
FRESH_SECONDS = 1.5
#: Requests of known callers leave the next trial of Postgres to others, unless no other comes.
PATIENT_SECONDS = 2.0
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller(Party):
    """The account behind a request, as read at ``read_at`` (seconds, monotonic)."""

    is_active: bool
    read_at: float


class Callers:
    """A cache of the accounts that called lately, so that a token call costs no Postgres query.

    While Postgres is away it serves accounts for up to five minutes: a deactivation needs Postgres
    too.

    :param stale_seconds: the age up to which it serves an account without Postgres
    """

    def __init__(self, stale_seconds: float = 300.0) -> None:
        self._stale_seconds = stale_seconds
        self._known: OrderedDict[str, Caller] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, user_id: str) -> Caller | None:
        """The account, or None where there is none.

        :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away and no recent copy is cached
        """
        if known := self._recall(user_id, FRESH_SECONDS):
            return known
        known = self._recall(user_id, self._stale_seconds)
        try:
            with asking(PATIENT_SECONDS if known else TRY_AGAIN_SECONDS):
                # Another request of the same caller may have read it during the wait.
                return self._recall(user_id, FRESH_SECONDS) or self._read(user_id)
        except database.SQLAlchemyError as error:
            if known is None or not is_outage(error):
                raise
            return known

    def _recall(self, user_id: str, seconds: float) -> Caller | None:
        """The cached account, unless it is older than ``seconds``."""
        known = self._known.get(user_id)
        return known if known and time.monotonic() - known.read_at < seconds else None

    def _read(self, user_id: str) -> Caller | None:
        read_at = time.monotonic()
        user = db.session.get(User, uuid.UUID(user_id))
        found = user and Caller(user_id, user.correo, is_active=user.is_active, read_at=read_at)
        with self._lock:
            self._known.pop(user_id, None)
            if found:
                self._known[user_id] = found
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found


callers = part(Callers)


def authenticate() -> None:
    """Demand a caller, unless the view is public or the endpoint does not exist.

    :raises Problem: there is none
    """
    asked = request._get_current_object()  # type: ignore[attr-defined]
    if asked.endpoint is None or is_public(asked.endpoint) or asked.method == "OPTIONS":
        return
    scheme, _, credentials = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not credentials:
        raise Problem("not_authenticated")
    if not CREDENTIALS.fullmatch(credentials):
        raise Problem("access_token_invalid")
    user_id = subject_of(credentials)
    g.caller = load_caller(user_id)
    g.caller_id = user_id


def caller() -> Caller:
    """The account of this request."""
    found: Caller = g.caller
    return found


def by_caller() -> str:
    """The key of limits that count by account."""
    return caller().id


def load_caller(user_id: str) -> Caller:
    """:raises Problem: the account does not exist, or is disabled"""
    found = callers.find(user_id)
    if found is None or not found.is_active:
        raise Problem("access_token_invalid")
    return found


def init_app(app: Flask) -> None:
    add(app, Callers())
    app.before_request(authenticate)
