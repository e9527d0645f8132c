"""Validate a token, which consumes it."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import by_caller, caller
from tokenservice.extensions import tokens
from tokenservice.onetime.values import Consumed, Presented
from tokenservice.telemetry import logs, metrics
from tokenservice.token.blueprint import blueprint
from tokenservice.token.problems import PRESENTATION_REFUSALS, consuming
from tokenservice.token.schemas import ValidateRequest, ValidateResponse
from tokenservice.web import texts
from tokenservice.web.limits import limited
from tokenservice.web.views import operation, repeatable


@blueprint.route("/validate", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(ValidateRequest())
@blueprint.response(200, ValidateResponse())
@operation("validateToken", *PRESENTATION_REFUSALS)
@repeatable
@consuming
def validate(given: dict[str, Any], key: str) -> tuple[Consumed, dict[str, str]]:
    """Validate a token, which consumes it

    Of any number of callers at once, exactly one gets this response.
    """
    return consumed("token.validated", tokens.validate(presented(given), caller(), key=key))


def presented(given: dict[str, Any]) -> Presented:
    """The token of a request, and the terms that its presenter expects."""
    return Presented(
        given["token"],
        given.get("purpose", ""),
        given.get("subject", ""),
        given.get("bind", ""),
    )


def consumed(event: str, token: Consumed) -> tuple[Consumed, dict[str, str]]:
    """Count a first success, log it or a replay, and name the language of the response."""
    if not token.replayed:
        metrics.VALIDATED.inc()
    logs.note(event, token_id=token.id, replayed=token.replayed)
    return token, {"Content-Language": texts.language(), "Vary": "Accept-Language"}
