"""One-time tokens: create, validate."""

from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint

from tokenservice import logs, messages, metrics, schemas
from tokenservice.callers import caller
from tokenservice.errors import Problem
from tokenservice.extensions import config, tokens
from tokenservice.limits import by_caller, limited
from tokenservice.openapi import BEARER, WITH_BODY, problems

blueprint = Blueprint("token", __name__, url_prefix="/token", description="One-time tokens")
blueprint.ARGUMENTS_PARSER = schemas.parser


@blueprint.route("/create", methods=["POST"])
@limited("create", by_caller)
@blueprint.arguments(schemas.NewToken, required=False)
@blueprint.response(201, schemas.CreatedToken)
@blueprint.doc(
    operationId="createToken",
    security=BEARER,
    responses=problems(
        *WITH_BODY, "not_authenticated", "access_token_invalid", "store_unavailable"
    ),
)
def create(given: dict[str, Any]) -> dict[str, Any]:
    """Create a token that can be used once"""
    life = given.get("expires_in", config.onetime_token_expire_seconds)
    if life > config.onetime_token_max_seconds:
        raise Problem(
            "validation_failed",
            errors={"expires_in": ["Longer than this service allows."]},
        )
    token = tokens.create(caller().id, life_seconds=life)
    metrics.CREATED.inc()
    logs.note("token.created", token_id=token.id)
    return {
        "token": token.text,
        "id": token.id,
        "expires_in": life,
        "expires_at": token.expires_at,
        "server_time": token.created_at,
        "subject": caller().id,
    }


@blueprint.route("/validate", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.PresentedToken)
@blueprint.response(200, schemas.ConsumedToken)
@blueprint.doc(
    operationId="validateToken",
    security=BEARER,
    responses=problems(
        "not_authenticated",
        "access_token_invalid",
        "validation_failed",
        "token_malformed",
        "token_unknown",
        "token_already_used",
        "token_expired",
        "token_lost",
        "store_unavailable",
    ),
)
def validate(given: dict[str, Any]) -> dict[str, Any]:
    """Validate a token, which uses it up

    Of any number of callers at once, exactly one gets this answer.
    """
    token = tokens.validate(given["token"], caller=caller().id)
    metrics.VALIDATED.inc()
    logs.note("token.validated", token_id=token.id)
    return {
        "message": messages.TOKEN_VALID[messages.language()],
        "valid": True,
        "id": token.id,
        "subject": token.owner,
        "issued_by": token.owner,
        "created_at": token.created_at,
        "consumed_at": token.consumed_at,
        "replayed": False,
    }
