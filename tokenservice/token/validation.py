"""Consume a token, by the path that the pages teach or by the one of the first version."""

from __future__ import annotations

from typing import Any

from tokenservice.auth.callers import Caller
from tokenservice.onetime.values import Consumed, Presented
from tokenservice.telemetry import audit, metrics
from tokenservice.token.accounts import issuers_of
from tokenservice.token.blueprint import blueprint
from tokenservice.token.presentation import tokens
from tokenservice.token.problems import PRESENTATION_REFUSALS
from tokenservice.token.schemas import ValidateRequest, ValidateResponse
from tokenservice.token.trail import note
from tokenservice.web.plans import Plan

PLAN = Plan(
    *("consumeToken", "POST", "/consume"),
    limit="validate",
    scope="token:consume",
    takes=ValidateRequest(),
    returns=ValidateResponse(),
    refusals=PRESENTATION_REFUSALS,
    repeatable=True,
    consuming=True,
    audited=True,
    speaks=True,
    seeks_accounts=b"issued_by",
)


@blueprint.call(PLAN)
def consume(caller: Caller, given: dict[str, Any], key: str) -> Consumed:
    """Consume a token

    Of any number of callers at once, exactly one gets this response.
    """
    return consumed("token.validated", tokens.validate(presented(given), caller, key=key))


@blueprint.call(PLAN._replace(name="validateToken", path="/validate"))
def validate(caller: Caller, given: dict[str, Any], key: str) -> Consumed:
    """Consume a token: the same call as /token/consume

    A repeat with the same Idempotency-Key may take either path. This one stays for good.
    """
    return consume(caller, given, key)


def presented(given: dict[str, Any]) -> Presented:
    """The token of a request, and the terms that its presenter expects.

    :raises sqlalchemy.exc.SQLAlchemyError: it names an address, and Postgres is away
    """
    # Until its record is read: of a refused token only its presenter tells them.
    audit.note(purpose=given.get("purpose"))
    return Presented(
        given["token"],
        given.get("purpose", ""),
        given.get("subject", ""),
        given.get("bind", ""),
        issuers=issuers_of(given),
        asked=tuple(given.get("issued_by", ())),
    )


def consumed(event: str, token: Consumed) -> Consumed:
    """Count a first success, and log it or a replay."""
    metrics.consumed(token, is_commit=event == "token.committed")
    note(event, token, replayed=token.replayed)
    return token
