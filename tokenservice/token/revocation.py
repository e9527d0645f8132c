"""Revoke a token, by its text or by its id, or all that are unused."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import Caller
from tokenservice.extensions import tokens
from tokenservice.telemetry import audit, logs, metrics
from tokenservice.token import presentation
from tokenservice.token.blueprint import blueprint
from tokenservice.token.problems import REFUSALS
from tokenservice.token.schemas import RevokeAllRequest, TokenRequest
from tokenservice.token.trail import note
from tokenservice.web.plans import Plan


@blueprint.call(
    Plan(
        *("revokeToken", "POST", "/revoke"),
        limit="validate",
        scope="token:revoke",
        takes=TokenRequest(),
        status=204,
        refusals=REFUSALS,
        audited=True,
    )
)
def revoke(caller: Caller, given: dict[str, Any]) -> None:
    """Revoke a token by its text

    For its creator and its audience. A repeat is 204 as well.
    """
    note("token.revoked", presentation.tokens.revoke(given["token"], caller))
    metrics.REVOKED.inc()


@blueprint.call(
    Plan(
        *("revokeTokenById", "DELETE", "/<token_id:token_id>"),
        limit="validate",
        scope="token:revoke",
        status=204,
        refusals=(
            "token_unknown",
            "token_already_used",
            "token_reserved",
            "token_expired",
            "token_lost",
            "store_unavailable",
        ),
        audited=True,
    )
)
def revoke_by_id(caller: Caller, given: dict[str, str]) -> None:
    """Revoke a token of one's own by its id

    For its creator. A repeat is 204 as well.
    """
    note("token.revoked", tokens.revoke_id(given["token_id"], caller))
    metrics.REVOKED.inc()


@blueprint.call(
    Plan(
        *("revokeTokens", "POST", "/revoke-all"),
        limit="validate",
        scope="token:revoke",
        takes=RevokeAllRequest(),
        is_optional=True,
        status=204,
        refusals=("too_many_cuts", "store_unavailable"),
        audited=True,
    )
)
def revoke_all(caller: Caller, given: dict[str, Any]) -> None:
    """Revoke all tokens of one's own that are unused

    With a purpose or a subject, only those that have it. Tokens that are created later are good.
    """
    tokens.revoke_all(caller.id, **given)
    logs.note("token.revoked_all")
    audit.note(issued_by=caller.id, **given)
    metrics.labelled(metrics.CUTS, next(iter(given), "all")).inc()
