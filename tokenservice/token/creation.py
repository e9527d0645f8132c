"""Create a token, or a batch of tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tokenservice.auth.callers import Caller
from tokenservice.extensions import config, tokens
from tokenservice.onetime.values import Created, Terms
from tokenservice.telemetry import audit, logs, metrics
from tokenservice.token.audience import audience_of
from tokenservice.token.blueprint import blueprint
from tokenservice.token.schemas import (
    CreateTokenRequest,
    CreateTokenResponse,
    CreateTokensRequest,
    CreateTokensResponse,
)
from tokenservice.web.plans import Plan
from tokenservice.web.problems import Problem

SECOND = timedelta(seconds=1)
REFUSALS = ("idempotency_mismatch", "too_many_active", "store_unavailable")


@blueprint.call(
    Plan(
        *("createToken", "POST", "/create"),
        limit="create",
        scope="token:create",
        takes=CreateTokenRequest(),
        is_optional=True,
        returns=CreateTokenResponse(),
        status=201,
        refusals=REFUSALS,
        repeatable=True,
        audited=True,
        locates="id",
        seeks_accounts=b"audience",
    )
)
def create(caller: Caller, given: dict[str, Any], key: str) -> dict[str, Any]:
    """Create a token that can be used once

    The response is the only place that shows it. Hand it to its presenter, and name the purpose and
    the audience, so that nobody else can consume it for anything else.
    """
    life, terms = given["expires_in"], terms_of(given, caller.key_id)
    created = tokens.create(caller.id, life_seconds=life, terms=terms, key=key)
    return issued([created], terms, caller)[0]


@blueprint.call(
    Plan(
        *("createTokens", "POST", "/batch"),
        limit="create",
        scope="token:create",
        takes=CreateTokensRequest(),
        returns=CreateTokensResponse(),
        status=201,
        refusals=REFUSALS,
        repeatable=True,
        audited=True,
        seeks_accounts=b"audience",
    )
)
def batch(caller: Caller, given: dict[str, Any], key: str) -> dict[str, Any]:
    """Create up to 100 tokens, all or none

    They share their terms, and each can be used once.
    """
    count = given["count"]
    if count > config.max_active:
        too_many = ["More than max_active: an account may not have so many outstanding tokens."]
        raise Problem("validation_failed", errors={"count": too_many}, max_active=config.max_active)
    life, terms = given["expires_in"], terms_of(given, caller.key_id)
    created = tokens.create_many(caller.id, count, life_seconds=life, terms=terms, key=key)
    return {"tokens": issued(created, terms, caller)}


def terms_of(given: dict[str, Any], issued_with: str = "") -> Terms:
    """The terms that a request asks for.

    :param issued_with: the id of the caller's key

    :raises Problem: its audience names an address without an account
    """
    audience, asked = audience_of(given)
    return Terms(
        purpose=given.get("purpose", ""),
        audience=audience,
        subject=given.get("subject", ""),
        data=given.get("data", ""),
        bind=given.get("bind", ""),
        asked=asked,
        require_subject=given["require_subject"],
        issued_with=issued_with,
    )


def issued(created: list[Created], terms: Terms, caller: Caller) -> list[dict[str, Any]]:
    """Count and log new tokens; return their response."""
    replayed = created[0].replayed
    if not replayed:
        metrics.CREATED.inc(len(created))
    else:
        metrics.labelled(metrics.REPLAYED, "create").inc()
    logs.note("token.created", token_id=created[0].id, count=len(created), replayed=replayed)
    audit.note(
        purpose=terms.purpose,
        issued_by=caller.id,
        issued_with=caller.key_id,
        expires_in=(created[0].expires_at - created[0].created_at) // SECOND,
        other_ids=[token.id for token in created[1:]],
    )
    return [
        {
            "token": token.text,
            "id": token.id,
            "expires_in": token.life_left // SECOND,
            "expires_at": token.expires_at,
            "server_time": token.now,
            "purpose": terms.purpose,
            "audience": list(token.audience) or None,
            "subject": terms.subject or caller.id,
            "state": token.state,
            "replayed": token.replayed,
        }
        for token in created
    ]
