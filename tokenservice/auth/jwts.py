"""JSON Web Tokens: their settings, strict verification, and a cache of verified ones."""

from __future__ import annotations

import contextlib
import datetime
import re
import threading
import time
from collections import OrderedDict
from typing import Any, NamedTuple

import jwt as pyjwt
from flask import Flask

from config import Config
from tokenservice.extensions import add, config, jwt, part
from tokenservice.onetime.format import ID_PATTERN
from tokenservice.web.problems import Problem

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "token-service"
#: The id of an account or of a session. The holder of the key may sign any text, which would be a
#: 500 in the look-up.
SUBJECT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The most that the clocks of two hosts may differ. Without it a JWT of the host that is ahead, by
#: a millisecond even, is "not yet valid" to the other. Each JWT lives longer by that.
LEEWAY_SECONDS = 5
#: The type of a person's JWT, and of one that stands for a service key. The release before knows
#: the first alone, and would take a key for the person otherwise.
OF_ACCOUNT, OF_KEY = "access", "key"
REQUIRED_CLAIMS = ("iss", "aud", "exp", "iat", "jti", "sub", "type")
REMEMBERED = 10_000

#: In the OpenAPI document: a JWT, and the way to one.
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An **access_token**, or a service key (**osk_…**).",
    },
    "password": {
        "type": "oauth2",
        "description": "**username** is your *correo*. Leave client_id and client_secret empty.",
        "flows": {"password": {"tokenUrl": "/auth/login", "scopes": {}}},
    },
}


class Principal(NamedTuple):
    """What verified credentials name. It is read in Postgres, and may have ended by now.

    :param scope: the only scopes of a key that they ask for; empty for all that it has
    """

    account: str = ""
    session: str = ""
    key: str = ""
    scope: str = ""


class VerifiedTokens:
    """A cache of verified credentials: to verify one again is the most expensive part of a call.

    A signature, or the secret of a key, stays good. So only the things that change are checked
    again: time, and the account or the key.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._lock = threading.Lock()

    def principal(self, credentials: str) -> Principal | None:
        """The principal of verified credentials that have not expired."""
        known = self._known.get(credentials)
        return known[0] if known and time.time() < known[1] else None

    def remember(self, credentials: str, principal: Principal, expires: float) -> None:
        with self._lock:
            self._known[credentials] = (principal, expires)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


verified_tokens = part(VerifiedTokens)


def principal_of(credentials: str) -> Principal:
    """The principal of an access token, from the cache or after verification.

    :raises Problem: it is not a complete, current token of this service
    """
    principal = verified_tokens.principal(credentials)
    if principal is None:
        claims = claims_of(credentials)
        if claims["type"] == OF_KEY:
            principal = Principal(key=claims["key"], scope=claims["scope"])
        else:
            principal = Principal(account=claims["sub"], session=claims.get("sid", ""))
        verified_tokens.remember(credentials, principal, claims["exp"])
    return principal


def claims_of(credentials: str) -> dict[str, Any]:
    """The claims of an access token, all of them verified.

    Not by Flask-JWT-Extended, which accepts a token without ``exp``, ``jti`` or ``type``.

    :raises Problem: it is not a complete, current token of this service
    """
    try:
        claims = verified(credentials)
    except pyjwt.ExpiredSignatureError:
        raise Problem("access_token_expired") from None
    except pyjwt.InvalidTokenError:
        raise Problem("access_token_invalid") from None
    # RFC 7519 section 2: a time is a number. The library accepts a text too.
    well_formed = isinstance(claims["exp"], int | float) and SUBJECT.fullmatch(claims["sub"])
    if "sid" in claims:  # None has that of a login on a read-only Postgres, or of the last release.
        sid = claims["sid"]
        well_formed = well_formed and isinstance(sid, str) and SUBJECT.fullmatch(sid)
    if not well_formed or not (claims["type"] == OF_ACCOUNT or names_key(claims)):
        raise Problem("access_token_invalid")
    return claims


def verified(credentials: str) -> dict[str, Any]:
    """The claims of a token that ``secret_key`` or one of its fallbacks signed.

    :raises jwt.InvalidTokenError: none of them did, or a claim is wrong
    """
    for key in config.secret_keys:
        with contextlib.suppress(pyjwt.InvalidSignatureError):
            claims: dict[str, Any] = pyjwt.decode(
                credentials,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED_CLAIMS)},
            )
            return claims
    raise pyjwt.InvalidSignatureError


def names_key(claims: dict[str, Any]) -> bool:
    """Tell whether these are well-formed claims of a service key."""
    key, scope = claims.get("key"), claims.get("scope")
    if claims["type"] != OF_KEY or not isinstance(key, str) or not isinstance(scope, str):
        return False
    return bool(ID_PATTERN.fullmatch(key) and scope)


def init_app(app: Flask, config: Config) -> None:
    app.config.update(
        JWT_SECRET_KEY=config.secret_key,
        JWT_ALGORITHM=ALGORITHM,
        JWT_ENCODE_ISSUER=ISSUER,
        JWT_ENCODE_AUDIENCE=AUDIENCE,
        JWT_ENCODE_NBF=False,
        JWT_ACCESS_TOKEN_EXPIRES=datetime.timedelta(minutes=config.access_token_expire_minutes),
    )
    jwt.init_app(app)
    add(app, VerifiedTokens())
