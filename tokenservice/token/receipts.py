"""Look at tokens without consuming them: introspect, the receipt, the list."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import by_caller, caller
from tokenservice.extensions import tokens
from tokenservice.onetime.values import Page, Receipt
from tokenservice.token.blueprint import blueprint
from tokenservice.token.schemas import (
    IntrospectResponse,
    ListRequest,
    ListResponse,
    ReceiptResponse,
    TokenRequest,
)
from tokenservice.web.limits import limited
from tokenservice.web.views import operation


@blueprint.route("/introspect", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(TokenRequest())
@blueprint.response(200, IntrospectResponse())
@operation("introspectToken", "store_unavailable")
def introspect(given: dict[str, Any]) -> dict[str, Any]:
    """Look at a token without consuming it

    A token that is not alive, or not for the caller, is just not active (RFC 7662 section 2.2).
    """
    seen = tokens.introspect(given["token"], caller())
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
        "bound": seen.is_bound,
    }


@blueprint.route("/<token_id:token_id>")
@limited("validate", by_caller)
@blueprint.response(200, ReceiptResponse())
@operation("tokenReceipt", "token_unknown", "store_unavailable")
def receipt(token_id: str) -> Receipt:
    """Read the receipt of a token, as its creator or one of its audience"""
    return tokens.receipt(token_id, caller())


@blueprint.route("")
@limited("validate", by_caller)
@blueprint.arguments(ListRequest(), location="query")
@blueprint.response(200, ListResponse())
@operation("listTokens", "store_unavailable")
def list_tokens(given: dict[str, Any]) -> Page:
    """List one's own tokens, newest first, without their secrets

    With a filter a page may hold fewer than ``limit``: go on until ``next_cursor`` is null.
    """
    return tokens.list_for(caller().id, **given)
