"""Authentication: the caller of each request, by a person's JWT, a key, or the JWT of a key.

Every view needs a caller unless it is marked :func:`~tokenservice.web.views.public`, and a person
unless its plan names a scope.
"""

from __future__ import annotations

import hmac
import re

from flask import Flask

from tokenservice.auth.callers import Caller, callers
from tokenservice.auth.jwts import Principal, principal_of, verified_tokens
from tokenservice.auth.rights import NOBODY, PREFIX, Key, KeyText
from tokenservice.onetime.errors import TokenMalformed
from tokenservice.telemetry import logs
from tokenservice.telemetry.calls import call
from tokenservice.web import addresses
from tokenservice.web.problems import Problem
from tokenservice.web.views import has, is_public

# RFC 6750 section 2.1. A list of several credentials is none of them.
CREDENTIALS = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def authenticate() -> None:
    """Demand a caller, unless the view is public or the endpoint does not exist.

    :raises Problem: there is none
    """
    asked = call()
    if asked.endpoint is None or is_public(asked.endpoint) or asked.method == "OPTIONS":
        return
    scheme, _, credentials = asked.given.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not credentials:
        raise Problem("not_authenticated")
    if not CREDENTIALS.fullmatch(credentials):
        raise Problem("access_token_invalid")
    asked.caller = caller_of(credentials)
    # A planned call names its scope (see web/plans.py). Any other is for people.
    if not has(asked.endpoint, "scope"):
        asked.caller.demand_scope("")


def caller() -> Caller:
    """The account of this call."""
    found: Caller = call().caller
    return found


def caller_of(credentials: str) -> Caller:
    """The account behind a JWT, or behind the text of a key.

    :raises Problem: there is none, or it has ended
    """
    if credentials.startswith(PREFIX):
        return caller_with_key(credentials)
    principal = principal_of(credentials)
    found = callers.find(principal)
    if principal.key:
        return admitted(principal.key, found)
    if found is None or not found.is_active:
        raise Problem("access_token_invalid")
    return found


def caller_with_key(credentials: str) -> Caller:
    """The account behind the text of a key.

    Each refusal costs one query, and so the same time, whatever is wrong.

    :raises Problem: it is no key, or one that may not be used, or not from here
    """
    principal = verified_tokens.principal(credentials)
    known = callers.recall(principal) if principal else None
    if known and known.key and known.is_current and is_from_its_network(known.key):
        callers.used(known.key)
        return known
    try:
        text = KeyText.parse(credentials)
    except TokenMalformed:
        logs.note("key.refused", why="malformed")
        raise Problem("key_invalid") from None
    principal = Principal(key=text.id)
    found = callers.find(principal, anew=True)
    key = found.key if found else None
    is_genuine = hmac.compare_digest(key.verifier if key else NOBODY, text.verifier)
    caller = admitted(text.id, found if is_genuine else None)
    if key:
        verified_tokens.remember(credentials, principal, key.ends_at)
    return caller


def admitted(key_id: str, found: Caller | None) -> Caller:
    """The caller that presents a key, if it may.

    :raises Problem: the key or its account has ended, or may not be used from here
    """
    if found is None or found.key is None:
        why = "unknown"
    elif not found.is_active:
        why = "disabled account"
    elif not found.key.is_current:
        why = "revoked" if found.key.is_revoked else "expired"
    elif not is_from_its_network(found.key):
        why = "network"
    else:
        callers.used(found.key)
        return found
    logs.note("key.refused", key_id=key_id, why=why)
    raise Problem("key_invalid")


def is_from_its_network(key: Key) -> bool:
    """Tell whether the client of this call may present the key."""
    return not key.networks or key.admits(addresses.of_client())


def init_app(app: Flask) -> None:
    app.before_request(authenticate)
