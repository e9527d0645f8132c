"""All texts of the service, and the exact set of its public endpoints."""

from __future__ import annotations

from tokenservice.auth import problems as auth
from tokenservice.token import problems as token
from tokenservice.web import texts

PROBLEMS = {**texts.PROBLEMS, **auth.PROBLEMS, **token.PROBLEMS}
FIELD_ERRORS = {**texts.FIELD_ERRORS, **auth.FIELD_ERRORS, **token.FIELD_ERRORS}

#: Every other view needs a caller.
PUBLIC = frozenset(
    {
        "auth.register",
        "auth.login",
        "auth.refresh",  # with a refresh token in it
        "auth.reset_password",  # with a reset token in it
        "auth.token",  # with the credentials of a client in it
        "auth.revoke",
        "auth_metadata",
        "ops.home",
        "ops.healthz",
        "ops.readyz",
        "ops.readyz_postgres",
        "ops.readyz_redis",
        "ops.metrics",  # guarded by its own bearer, or open to loopback only
        "ops.openapi",
        "ops.docs",
        "ops.docs_asset",
        "ops.problem",
        "ops.problem_index",
        "static",
    }
)

#: Views that take a POST without a body, and read none.
BODILESS = frozenset({"auth.logout", "auth.logout_all", "gate.admit"})
#: Views for proxies, which know 204, 401, 403 and 503 alone.
FOR_PROXIES = frozenset({"gate.admit"})

#: The scope that a key needs for each view that takes one. Every other view refuses all keys.
SCOPES = {
    "token.create": "token:create",
    "token.batch": "token:create",
    "token.consume": "token:consume",
    "token.validate": "token:consume",
    "lease.reserve": "token:consume",
    "lease.commit": "token:consume",
    "lease.release": "token:consume",
    "gate.admit": "token:consume",
    "token.introspect": "token:read",
    "token.receipt": "token:read",
    "token.list_tokens": "token:read",
    "token.revoke": "token:revoke",
    "token.revoke_by_id": "token:revoke",
    "token.revoke_all": "token:revoke",
}
FOR_PEOPLE = frozenset(
    {
        *("auth.me", "auth.create_key", "auth.list_keys", "auth.revoke_key", "auth.logout"),
        *("auth.logout_all", "auth.list_sessions", "auth.end_session", "auth.change_password"),
        "auth.erase_me",
    }
)
