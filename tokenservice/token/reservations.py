"""Reservations: a token held for one caller while the action that it allows is carried out."""

from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint

from tokenservice.extensions import tokens
from tokenservice.telemetry import logs
from tokenservice.token.creation import (
    PRESENT_REFUSALS,
    consumed,
    granted,
    idempotency_key,
    party,
    presented,
)
from tokenservice.web import schemas
from tokenservice.web.limits import by_caller, limited
from tokenservice.web.openapi import BEARER, IDEMPOTENCY_KEY, WITH_BODY, WITH_CALLER, problems

blueprint = Blueprint("lease", __name__, url_prefix="/token", description="Reservations of tokens")
blueprint.ARGUMENTS_PARSER = schemas.parser

LEASE_REFUSALS = (
    "token_malformed",
    "token_unknown",
    "token_already_used",
    "token_lost",
    "lease_ended",
    "store_unavailable",
)


@blueprint.route("/reserve", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.ReservedToken())
@blueprint.response(200, schemas.HeldToken())
@blueprint.doc(
    operationId="reserveToken",
    security=BEARER,
    parameters=[IDEMPOTENCY_KEY],
    responses=problems(*WITH_BODY, *WITH_CALLER, *PRESENT_REFUSALS, "lease_ended"),
)
def reserve(given: dict[str, Any]) -> dict[str, Any]:
    """Hold a token while the action that it allows is carried out

    Commit the reservation when it is done, or release it when it failed. The lease ends by
    itself, and the token can then be used again while its life remains.
    """
    held = tokens.reserve(
        presented(given), party(), lease_seconds=given["lease_seconds"], key=idempotency_key()
    )
    logs.note("token.reserved", token_id=held.id)
    return {
        "reservation": held.text,
        "lease_expires_at": held.lease_expires_at,
        **granted(held),
    }


@blueprint.route("/commit", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.Reservation())
@blueprint.response(200, schemas.ConsumedToken())
@blueprint.doc(
    operationId="commitToken",
    security=BEARER,
    parameters=[IDEMPOTENCY_KEY],
    responses=problems(*WITH_BODY, *WITH_CALLER, *LEASE_REFUSALS, "idempotency_mismatch"),
)
def commit(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Use up the token that a reservation holds"""
    token = tokens.commit(given["reservation"], party(), key=idempotency_key())
    return consumed("token.committed", token)


@blueprint.route("/release", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.Reservation())
@blueprint.response(204)
@blueprint.doc(
    operationId="releaseToken",
    security=BEARER,
    responses=problems(*WITH_BODY, *WITH_CALLER, *LEASE_REFUSALS),
)
def release(given: dict[str, Any]) -> None:
    """Give back the token that a reservation holds"""
    logs.note("token.released", token_id=tokens.release(given["reservation"], party()))
