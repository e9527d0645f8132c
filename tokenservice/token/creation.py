"""One-time tokens: create, validate, look at, take back."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from flask import request
from flask_smorest import Blueprint

from tokenservice.auth.callers import caller
from tokenservice.extensions import config, tokens
from tokenservice.onetime.values import (
    Consumed,
    Created,
    Party,
    Presented,
    Receipt,
    Reserved,
    Terms,
)
from tokenservice.telemetry import logs, metrics
from tokenservice.web import schemas, texts
from tokenservice.web.limits import by_caller, limited
from tokenservice.web.openapi import BEARER, IDEMPOTENCY_KEY, WITH_BODY, WITH_CALLER, problems
from tokenservice.web.problems import Problem

blueprint = Blueprint("token", __name__, url_prefix="/token", description="One-time tokens")
blueprint.ARGUMENTS_PARSER = schemas.parser

KEY = re.compile(r"[!-~]{1,255}")
REFUSALS = (
    "token_malformed",
    "token_unknown",
    "token_not_for_caller",
    "token_already_used",
    "token_reserved",
    "token_expired",
    "token_revoked",
    "token_lost",
    "store_unavailable",
)
CREATE_REFUSALS = ("idempotency_mismatch", "too_many_active", "store_unavailable")
PRESENT_REFUSALS = (*REFUSALS, "token_mismatch", "idempotency_mismatch")


def party() -> Party:
    """The caller, as the engine knows one."""
    return Party(caller().id, caller().correo)


def idempotency_key() -> str:
    """The caller's key for this call, or "".

    :raises Problem: it is not 1 to 255 visible ASCII characters
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not KEY.fullmatch(key):
        wrong = ["Takes 1 to 255 visible ASCII characters."]
        raise Problem("validation_failed", errors={"Idempotency-Key": wrong})
    return key


def presented(given: dict[str, Any]) -> Presented:
    return Presented(
        given["token"],
        given.get("purpose", ""),
        given.get("subject", ""),
        given.get("bind", ""),
    )


@blueprint.route("/create", methods=["POST"])
@limited("create", by_caller)
@blueprint.arguments(schemas.NewToken(), required=False)
@blueprint.response(201, schemas.CreatedToken())
@blueprint.doc(
    operationId="createToken",
    security=BEARER,
    parameters=[IDEMPOTENCY_KEY],
    responses=problems(*WITH_BODY, *WITH_CALLER, *CREATE_REFUSALS),
)
def create(given: dict[str, Any]) -> dict[str, Any]:
    """Create a token that can be used once"""
    return issue(given)[0]


@blueprint.route("/batch", methods=["POST"])
@limited("create", by_caller)
@blueprint.arguments(schemas.NewTokens())
@blueprint.response(201, schemas.CreatedTokens())
@blueprint.doc(
    operationId="createTokens",
    security=BEARER,
    parameters=[IDEMPOTENCY_KEY],
    responses=problems(*WITH_BODY, *WITH_CALLER, *CREATE_REFUSALS),
)
def batch(given: dict[str, Any]) -> dict[str, Any]:
    """Create up to 100 tokens, all or none"""
    return {"tokens": issue(given, given["count"])}


def issue(given: dict[str, Any], count: int | None = None) -> list[dict[str, Any]]:
    """Create one token, or a batch of ``count``, as a body asks for it, and describe each."""
    life = given.get("expires_in", config.onetime_token_expire_seconds)
    if life > config.onetime_token_max_seconds:
        too_long = ["Longer than this service allows."]
        raise Problem("validation_failed", errors={"expires_in": too_long})
    if count and count > config.max_active:
        too_many = ["More than max_active: an account may not have so many outstanding tokens."]
        raise Problem("validation_failed", errors={"count": too_many}, max_active=config.max_active)
    owner = caller().id
    terms = Terms(
        purpose=given.get("purpose", ""),
        audience=tuple(given.get("audience", ())),
        subject=given.get("subject", owner),
        data=given.get("data", ""),
        bind=given.get("bind", ""),
    )
    how: dict[str, Any] = {"life_seconds": life, "terms": terms, "key": idempotency_key()}
    if count is None:
        created = [tokens.create(owner, **how)]
    else:
        created = tokens.create_many(owner, count, **how)
    replayed = created[0].replayed
    if not replayed:
        metrics.CREATED.inc(len(created))
    logs.note("token.created", token_id=created[0].id, count=len(created), replayed=replayed)
    return [described(token, life, terms) for token in created]


def described(token: Created, life: int, terms: Terms) -> dict[str, Any]:
    return {
        "token": token.text,
        "id": token.id,
        "expires_in": life,
        "expires_at": token.expires_at,
        "server_time": token.created_at,
        "purpose": terms.purpose or None,
        "audience": list(terms.audience) or None,
        "subject": terms.subject,
    }


@blueprint.route("/validate", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.PresentedToken())
@blueprint.response(200, schemas.ConsumedToken())
@blueprint.doc(
    operationId="validateToken",
    security=BEARER,
    parameters=[IDEMPOTENCY_KEY],
    responses=problems(*WITH_BODY, *WITH_CALLER, *PRESENT_REFUSALS),
)
def validate(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Validate a token, which uses it up

    Of any number of callers at once, exactly one gets this answer.
    """
    token = tokens.validate(presented(given), party(), key=idempotency_key())
    return consumed("token.validated", token)


def consumed(event: str, token: Consumed) -> tuple[dict[str, Any], dict[str, str]]:
    """Count a first success, and tell it, or a repeated one, to the caller."""
    if not token.replayed:
        metrics.VALIDATED.inc()
    logs.note(event, token_id=token.id, replayed=token.replayed)
    language = texts.language()
    body = {
        "message": texts.TOKEN_VALID[language],
        "valid": True,
        **granted(token),
        "consumed_at": token.consumed_at,
        "replayed": token.replayed,
    }
    return body, {"Content-Language": language, "Vary": "Accept-Language"}


def granted(token: Consumed | Reserved) -> dict[str, Any]:
    """What whoever may use a token is told of it, consumed or held."""
    return {
        "id": token.id,
        "subject": token.subject,
        "purpose": token.purpose or None,
        "data": token.data,
        "issued_by": token.owner,
        "created_at": token.created_at,
    }


@blueprint.route("/introspect", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.OnlyToken())
@blueprint.response(200, schemas.Introspection())
@blueprint.doc(
    operationId="introspectToken",
    security=BEARER,
    responses=problems(*WITH_BODY, *WITH_CALLER, "store_unavailable"),
)
def introspect(given: dict[str, Any]) -> dict[str, Any]:
    """Look at a token without using it up

    Whatever is not alive, or not for the caller, is just not active (RFC 7662 section 2.2).
    """
    seen = tokens.introspect(given["token"], party())
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
        "purpose": receipt.purpose or None,
        "audience": list(seen.audience) or None,
        "subject": receipt.subject,
        "issued_by": receipt.owner,
        "bound": seen.is_bound,
    }


@blueprint.route("/revoke", methods=["POST"])
@limited("validate", by_caller)
@blueprint.arguments(schemas.OnlyToken())
@blueprint.response(204)
@blueprint.doc(
    operationId="revokeToken",
    security=BEARER,
    responses=problems(*WITH_BODY, *WITH_CALLER, *REFUSALS),
)
def revoke(given: dict[str, Any]) -> None:
    """Revoke a token that one holds"""
    logs.note("token.revoked", token_id=tokens.revoke(given["token"], party()))


@blueprint.route("/<token_id:token_id>", methods=["DELETE"])
@limited("validate", by_caller)
@blueprint.response(204)
@blueprint.doc(
    operationId="revokeTokenById",
    security=BEARER,
    responses=problems(
        *WITH_CALLER,
        "rate_limited",
        "token_unknown",
        "token_already_used",
        "token_reserved",
        "token_expired",
        "token_lost",
        "store_unavailable",
    ),
)
def revoke_by_id(token_id: str) -> None:
    """Revoke a token of one's own by its id"""
    tokens.revoke_id(token_id, party())
    logs.note("token.revoked", token_id=token_id)


def told(receipt: Receipt) -> dict[str, Any]:
    return {**asdict(receipt), "purpose": receipt.purpose or None}


@blueprint.route("/<token_id:token_id>")
@limited("validate", by_caller)
@blueprint.response(200, schemas.Receipt())
@blueprint.doc(
    operationId="tokenReceipt",
    security=BEARER,
    responses=problems(*WITH_CALLER, "rate_limited", "token_unknown", "store_unavailable"),
)
def receipt(token_id: str) -> dict[str, Any]:
    """See what became of a token, as its creator or one of its audience"""
    return told(tokens.receipt(token_id, party()))


@blueprint.route("")
@limited("validate", by_caller)
@blueprint.arguments(schemas.ListQuery(), location="query")
@blueprint.response(200, schemas.Page())
@blueprint.doc(
    operationId="listTokens",
    security=BEARER,
    responses=problems(*WITH_CALLER, "validation_failed", "rate_limited", "store_unavailable"),
)
def list_tokens(given: dict[str, Any]) -> dict[str, Any]:
    """List one's own tokens, newest first, without their secrets

    With a filter a page may hold fewer than ``limit``: go on until ``next_cursor`` is null.
    """
    page = tokens.list_for(caller().id, **given)
    return {
        "items": [told(receipt) for receipt in page.items],
        "next_cursor": page.next_cursor or None,
    }
