"""Validate a token, which consumes it."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import Caller
from tokenservice.extensions import tokens
from tokenservice.onetime.values import Consumed, Presented
from tokenservice.telemetry import logs, metrics
from tokenservice.token.blueprint import blueprint
from tokenservice.token.problems import PRESENTATION_REFUSALS
from tokenservice.token.schemas import ValidateRequest, ValidateResponse
from tokenservice.web.plans import Plan


@blueprint.call(
    Plan(
        *("validateToken", "POST", "/validate"),
        limit="validate",
        scope="token:consume",
        takes=ValidateRequest(),
        returns=ValidateResponse(),
        refusals=PRESENTATION_REFUSALS,
        repeatable=True,
        consuming=True,
        speaks=True,
    )
)
def validate(caller: Caller, given: dict[str, Any], key: str) -> Consumed:
    """Validate a token, which consumes it

    Of any number of callers at once, exactly one gets this response.
    """
    return consumed("token.validated", tokens.validate(presented(given), caller, key=key))


def presented(given: dict[str, Any]) -> Presented:
    """The token of a request, and the terms that its presenter expects."""
    return Presented(
        given["token"],
        given.get("purpose", ""),
        given.get("subject", ""),
        given.get("bind", ""),
    )


def consumed(event: str, token: Consumed) -> Consumed:
    """Count a first success, and log it or a replay."""
    if not token.replayed:
        metrics.VALIDATED.inc()
    logs.note(event, token_id=token.id, replayed=token.replayed)
    return token
