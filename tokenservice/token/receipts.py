"""Look at tokens without consuming them: introspect, the receipt, the list."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import Caller
from tokenservice.extensions import tokens
from tokenservice.onetime.values import Page, Receipt
from tokenservice.token import presentation
from tokenservice.token.accounts import issuers_of
from tokenservice.token.blueprint import blueprint
from tokenservice.token.schemas import (
    IntrospectRequest,
    IntrospectResponse,
    ListRequest,
    ListResponse,
    ReceiptResponse,
)
from tokenservice.web.plans import Plan


@blueprint.call(
    Plan(
        *("introspectToken", "POST", "/introspect"),
        limit="validate",
        scope="token:read",
        takes=IntrospectRequest(),
        returns=IntrospectResponse(),
        refusals=("store_unavailable",),
        seeks_accounts=b"issued_by",
    )
)
def introspect(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Look at a token without consuming it

    A token that is not alive, not for the caller or of another issuer is just not active (RFC 7662
    section 2.2).
    """
    seen = presentation.tokens.introspect(given["token"], caller, issuers_of(given))
    if seen is None:
        return {"active": False}
    receipt = seen.receipt
    return {
        "active": True,
        "id": receipt.id,
        "state": receipt.state,
        "expires_in": seen.expires_in,
        "expires_at": receipt.expires_at,
        "created_at": receipt.created_at,
        "purpose": receipt.purpose,
        "audience": list(seen.audience) or None,
        "subject": receipt.subject,
        "issued_by": receipt.owner,
        "issued_with": receipt.issued_with,
        "bound": seen.is_bound,
    }


@blueprint.call(
    Plan(
        *("tokenReceipt", "GET", "/<token_id:token_id>"),
        limit="validate",
        scope="token:read",
        returns=ReceiptResponse(),
        refusals=("token_unknown", "store_unavailable"),
    )
)
def receipt(caller: Caller, given: dict[str, str]) -> Receipt:
    """Read the receipt of a token

    For its creator and its audience, also for a while after it was consumed.
    """
    return tokens.receipt(given["token_id"], caller)


@blueprint.call(
    Plan(
        *("listTokens", "GET", ""),
        limit="validate",
        scope="token:read",
        takes=ListRequest(),
        source="query",
        returns=ListResponse(),
        refusals=("store_unavailable",),
    )
)
def list_tokens(caller: Caller, given: dict[str, Any]) -> Page:
    """List one's own tokens, newest first, without their secrets

    With a filter a page may hold fewer than ``limit``: go on until ``next_cursor`` is null.
    """
    return tokens.list_for(caller.id, **given)
