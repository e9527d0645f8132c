"""Who is calling: the JWT, made strict, and the account behind it, remembered for a moment.

Every route needs a caller unless its endpoint stands in :data:`PUBLIC`.
"""

from __future__ import annotations

import datetime
import re
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jwt
from flask import Flask, current_app, g, request
from flask_jwt_extended import JWTManager
from sqlalchemy import exc as database

from config import Config
from tokenservice.auth.models import User
from tokenservice.extensions import db
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS
from tokenservice.postgres.timeouts import asking
from tokenservice.web.problems import Problem, is_outage

PUBLIC = frozenset(
    {
        "auth.register",
        "auth.login",
        "ops.home",
        "ops.healthz",
        "ops.readyz",
        "ops.metrics",  # guarded by its own bearer, or open to loopback only
        "ops.openapi",
        "ops.docs",
        "ops.docs_asset",
        "ops.problem",
        "static",
    }
)

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "token-service"
# RFC 6750 section 2.1. What is a list of several credentials is none of them.
CREDENTIALS = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# A key holder's own tokens are not all sane: anything else would be a 500 in the look-up.
SUBJECT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# How far apart the clocks of two hosts of the service may be. Without it a JWT of the one whose
# clock is ahead, be it by a millisecond, is "not yet valid" to the other. It lives longer by that.
LEEWAY_SECONDS = 5
REQUIRED_CLAIMS = ("iss", "aud", "exp", "iat", "jti", "sub", "type")

# Out within two seconds of being deactivated is the promise; the rest is for the query.
FRESH_SECONDS = 1.5
#: Known callers leave it to others to find out that Postgres is back, unless no other asks.
PATIENT_SECONDS = 2.0
REMEMBERED = 10_000


def claims_of(credentials: str) -> dict[str, Any]:
    """What an access token says, once all of it is verified.

    Not by Flask-JWT-Extended, which takes one without ``exp``, ``jti`` or ``type``.

    :raises Problem: it is not a whole, current token of ours
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            credentials,
            current_app.config["JWT_SECRET_KEY"],
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=LEEWAY_SECONDS,
            options={"require": list(REQUIRED_CLAIMS)},
        )
    except jwt.ExpiredSignatureError:
        raise Problem("access_token_expired") from None
    except jwt.InvalidTokenError:
        raise Problem("access_token_invalid") from None
    # RFC 7519 section 2: a time is a number. The library takes a text too.
    sane = isinstance(claims["exp"], int | float) and SUBJECT.fullmatch(claims["sub"])
    if claims["type"] != "access" or not sane:
        raise Problem("access_token_invalid")
    return claims


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a request, as it was at ``read_at`` (seconds, monotonic)."""

    id: str
    correo: str
    is_active: bool
    read_at: float


class Verified:
    """The JWTs that were verified lately: verifying one again takes longer than all else here.

    A signature stays good, so only what can change is asked again: time, and the account.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def subject(self, token: str) -> str | None:
        """Give the user id that ``token`` was verified to speak for, while it has not expired."""
        known = self._known.get(token)
        return known[0] if known and time.time() < known[1] else None

    def remember(self, token: str, user_id: str, expires: float) -> None:
        with self._lock:
            self._known[token] = (user_id, expires)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


class Callers:
    """The accounts that called lately, so that a token call costs no Postgres query.

    While Postgres cannot be asked, what was last known is used for up to five minutes:
    deactivating someone needs Postgres too.

    :param stale_seconds: for how long what was last known is used
    """

    def __init__(self, stale_seconds: float = 300.0) -> None:
        self._stale_seconds = stale_seconds
        self._known: OrderedDict[str, Caller] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, user_id: str) -> Caller | None:
        """Give the account, or None where there is none.

        :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away and nothing recent is known
        """
        if known := self._recall(user_id, FRESH_SECONDS):
            return known
        known = self._recall(user_id, self._stale_seconds)
        try:
            with asking(PATIENT_SECONDS if known else TRY_AGAIN_SECONDS):
                # Another request of the same caller may have asked while this one waited to.
                return self._recall(user_id, FRESH_SECONDS) or self._read(user_id)
        except database.SQLAlchemyError as error:
            if known is None or not is_outage(error):
                raise
            return known

    def _recall(self, user_id: str, seconds: float) -> Caller | None:
        """Give the account as it was at most so many seconds ago, if it was looked at."""
        known = self._known.get(user_id)
        return known if known and time.monotonic() - known.read_at < seconds else None

    def _read(self, user_id: str) -> Caller | None:
        read_at = time.monotonic()
        user = db.session.get(User, uuid.UUID(user_id))
        found = user and Caller(user_id, user.correo, user.is_active, read_at)
        with self._lock:
            self._known.pop(user_id, None)
            if found:
                self._known[user_id] = found
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found


def authenticate() -> None:
    """Demand a caller, unless the endpoint is public or there is no such endpoint.

    :raises Problem: there is none
    """
    asked = request._get_current_object()  # type: ignore[attr-defined]
    if asked.endpoint is None or asked.endpoint in PUBLIC or asked.method == "OPTIONS":
        return
    scheme, _, credentials = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not credentials:
        raise Problem("not_authenticated")
    if not CREDENTIALS.fullmatch(credentials):
        raise Problem("access_token_invalid")
    verified: Verified = current_app.extensions["verified"]
    user_id = verified.subject(credentials)
    if user_id is None:
        claims = claims_of(credentials)
        user_id = claims["sub"]
        verified.remember(credentials, user_id, claims["exp"])
    g.caller = load_caller(user_id)
    g.caller_id = user_id


def caller() -> Caller:
    """Give the account that this request was authenticated as."""
    found: Caller = g.caller
    return found


def load_caller(user_id: str) -> Caller:
    """:raises Problem: there is no such account, or not any more"""
    callers: Callers = current_app.extensions["callers"]
    found = callers.find(user_id)
    if found is None or not found.is_active:
        raise Problem("access_token_invalid")
    return found


def init_app(app: Flask, config: Config) -> None:
    app.config.update(
        JWT_SECRET_KEY=config.secret_key,
        JWT_ALGORITHM=ALGORITHM,
        JWT_ENCODE_ISSUER=ISSUER,
        JWT_ENCODE_AUDIENCE=AUDIENCE,
        JWT_ENCODE_NBF=False,
        JWT_ACCESS_TOKEN_EXPIRES=datetime.timedelta(minutes=config.access_token_expire_minutes),
    )
    JWTManager(app)  # It signs; what is presented is verified here.
    app.extensions["callers"] = Callers()
    app.extensions["verified"] = Verified()
    app.before_request(authenticate)
