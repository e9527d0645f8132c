"""Reserve a token for one caller during an action; then commit or release it."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import by_caller, caller
from tokenservice.extensions import tokens
from tokenservice.onetime.values import Consumed, Reserved
from tokenservice.telemetry import logs
from tokenservice.token.blueprint import reservations as blueprint
from tokenservice.token.problems import PRESENTATION_REFUSALS, consuming
from tokenservice.token.schemas import (
    ReservationRequest,
    ReserveRequest,
    ReserveResponse,
    ValidateResponse,
)
from tokenservice.token.validation import consumed, presented
from tokenservice.web.limits import limited
from tokenservice.web.views import operation, repeatable

REFUSALS = (
    "token_malformed",
    "token_unknown",
    "token_already_used",
    "token_lost",
    "lease_ended",
    "store_unavailable",
)


@blueprint.route("/reserve", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(ReserveRequest())
@blueprint.response(200, ReserveResponse())
@operation("reserveToken", *PRESENTATION_REFUSALS, "lease_ended")
@repeatable
@consuming
def reserve(given: dict[str, Any], key: str) -> Reserved:
    """Hold a token while the action that it allows is carried out

    Commit the reservation after the action, or release it if the action failed. The lease ends by
    itself, and the token can then be used while its life remains.
    """
    lease = given["lease_seconds"]
    held = tokens.reserve(presented(given), caller(), lease_seconds=lease, key=key)
    logs.note("token.reserved", token_id=held.id)
    return held


@blueprint.route("/commit", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(ReservationRequest())
@blueprint.response(200, ValidateResponse())
@operation("commitToken", *REFUSALS, "idempotency_mismatch")
@repeatable
@consuming
def commit(given: dict[str, Any], key: str) -> tuple[Consumed, dict[str, str]]:
    """Consume the token that a reservation holds"""
    return consumed("token.committed", tokens.commit(given["reservation"], caller(), key=key))


@blueprint.route("/release", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(ReservationRequest())
@blueprint.response(204)
@operation("releaseToken", *REFUSALS)
def release(given: dict[str, Any]) -> None:
    """Release the token that a reservation holds"""
    logs.note("token.released", token_id=tokens.release(given["reservation"], caller()))
