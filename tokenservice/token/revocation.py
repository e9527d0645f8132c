"""Revoke a token, by its text or by its id."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import by_caller, caller
from tokenservice.extensions import tokens
from tokenservice.telemetry import logs
from tokenservice.token.blueprint import blueprint
from tokenservice.token.problems import REFUSALS
from tokenservice.token.schemas import TokenRequest
from tokenservice.web.limits import limited
from tokenservice.web.views import operation


@blueprint.route("/revoke", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(TokenRequest())
@blueprint.response(204)
@operation("revokeToken", *REFUSALS)
def revoke(given: dict[str, Any]) -> None:
    """Revoke a token by its text"""
    logs.note("token.revoked", token_id=tokens.revoke(given["token"], caller()))


@blueprint.route("/<token_id:token_id>", methods=["DELETE"])
@limited("validate", by_caller)
@blueprint.response(204)
@operation(
    "revokeTokenById",
    "token_unknown",
    "token_already_used",
    "token_reserved",
    "token_expired",
    "token_lost",
    "store_unavailable",
)
def revoke_by_id(token_id: str) -> None:
    """Revoke a token of one's own by its id"""
    tokens.revoke_id(token_id, caller())
    logs.note("token.revoked", token_id=token_id)
