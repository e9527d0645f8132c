"""Reserve a token for one caller during an action; then commit or release it."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import Caller
from tokenservice.onetime.values import Consumed, Reserved
from tokenservice.telemetry import metrics
from tokenservice.token.blueprint import reservations as blueprint
from tokenservice.token.presentation import tokens
from tokenservice.token.problems import PRESENTATION_REFUSALS
from tokenservice.token.schemas import (
    ReservationRequest,
    ReserveRequest,
    ReserveResponse,
    ValidateResponse,
)
from tokenservice.token.trail import note
from tokenservice.token.validation import consumed, presented
from tokenservice.web.plans import Plan

REFUSALS = (
    "token_malformed",
    "token_unknown",
    "token_already_used",
    "token_revoked",
    "token_lost",
    "lease_ended",
    "store_unavailable",
)


@blueprint.call(
    Plan(
        *("reserveToken", "POST", "/reserve"),
        limit="validate",
        scope="token:consume",
        takes=ReserveRequest(),
        returns=ReserveResponse(),
        refusals=(*PRESENTATION_REFUSALS, "lease_ended"),
        repeatable=True,
        consuming=True,
        audited=True,
        seeks_accounts=b"issued_by",
    )
)
def reserve(caller: Caller, given: dict[str, Any], key: str) -> Reserved:
    """Hold a token while the action that it allows is carried out

    Commit the reservation after the action, or release it if the action failed. The lease ends by
    itself, and the token can then be used while its life remains.
    """
    lease = given["lease_seconds"]
    held = tokens.reserve(presented(given), caller, lease_seconds=lease, key=key)
    (metrics.labelled(metrics.REPLAYED, "reserve") if held.replayed else metrics.RESERVED).inc()
    note("token.reserved", held)
    return held


@blueprint.call(
    Plan(
        *("commitToken", "POST", "/commit"),
        limit="validate",
        scope="token:consume",
        takes=ReservationRequest(),
        returns=ValidateResponse(),
        refusals=(*REFUSALS, "idempotency_mismatch"),
        repeatable=True,
        consuming=True,
        audited=True,
        speaks=True,
    )
)
def commit(caller: Caller, given: dict[str, Any], key: str) -> Consumed:
    """Consume the token that a reservation holds

    A repeat with the same Idempotency-Key gets the same response.
    """
    return consumed("token.committed", tokens.commit(given["reservation"], caller, key=key))


@blueprint.call(
    Plan(
        *("releaseToken", "POST", "/release"),
        limit="validate",
        scope="token:consume",
        takes=ReservationRequest(),
        status=204,
        refusals=REFUSALS,
        audited=True,
    )
)
def release(caller: Caller, given: dict[str, Any]) -> None:
    """Release the token that a reservation holds

    It can then be used again, while its life remains.
    """
    note("token.released", tokens.release(given["reservation"], caller))
    metrics.RELEASED.inc()
