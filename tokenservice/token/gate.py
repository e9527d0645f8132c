"""The gate: tells a proxy whether a request may pass, and consumes the ticket of that request.

For proxies that ask before they pass a request on: auth_request of nginx, forward_auth of Caddy,
ForwardAuth of Traefik, ext_authz of Envoy. They know three outcomes, 2xx, 401 and 403, and nginx
makes a 500 of any other: so each refusal of a ticket is 403, and what is not about it is 503.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from flask import Response, request
from werkzeug.exceptions import HTTPException

from tokenservice.auth.authentication import caller
from tokenservice.onetime.errors import TokenRefused
from tokenservice.onetime.values import Presented
from tokenservice.telemetry import audit, logs
from tokenservice.telemetry.audit import audited
from tokenservice.telemetry.calls import call
from tokenservice.token.accounts import issuers_of
from tokenservice.token.blueprint import gate as blueprint
from tokenservice.token.passes import Doorway, Pass, encoded, passes
from tokenservice.token.presentation import tokens
from tokenservice.token.problems import PRESENTATION_REFUSALS
from tokenservice.token.schemas import GateRequest
from tokenservice.token.validation import consumed
from tokenservice.web import limits
from tokenservice.web.plans import count
from tokenservice.web.problems import RETRY_SOON, Problem, explanations, of_http, respond
from tokenservice.web.views import answering, for_keys, idempotency_key, operation

#: The problems of a ticket. All others, those of the proxy's own key too, are 503.
REFUSALS = {*PRESENTATION_REFUSALS} - {"store_unavailable"}
#: What the response to a good ticket says of it.
HEADERS = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in (
        ("X-Token-Id", "its id"),
        ("X-Token-Subject", "the party that it speaks for, percent-encoded"),
        ("X-Token-Issued-By", "the id of its issuer"),
        ("X-Token-Purpose", "its purpose"),
        ("X-Token-Data", "with data=1, its data: JSON in base64url"),
    )
}
#: The most bytes of data: 2 KB of base64, so that a pass with the longest subject is a cookie too.
ROOM = 1536
LIMIT, SCOPE = "validate", "token:consume"


def status_of(code: str) -> int:
    """The status of a problem, by its code."""
    if code == "ticket_missing":
        return 401
    return 403 if code in REFUSALS else 503


@blueprint.route("/gate", methods=["GET", "POST"])
@blueprint.arguments(GateRequest(), location="query")
@blueprint.response(204, headers=HEADERS)
@audited
@answering(status_of)
@for_keys(LIMIT, SCOPE)
@operation("gate", "ticket_missing", *PRESENTATION_REFUSALS, "purpose_not_allowed")
def admit(given: dict[str, Any]) -> Response:
    """Tell a proxy whether a request may pass, and consume its ticket

    The ticket is in ``X-One-Time-Token``, in ``Sec-WebSocket-Protocol`` behind ``ott``, or in the
    parameter ``ticket`` of the address in ``X-Original-URI`` or ``X-Forwarded-Uri``. A 403 is about
    the ticket, and ``X-Token-Code`` says why. With ``pass_seconds`` the 204 sets a cookie, with
    which the browser passes again without a second consume.
    """
    asking, purpose, issuers = caller(), given["purpose"], tuple(given["issued_by"])
    asking.demand_scope(SCOPE)
    asking.demand_purpose(purpose)
    text = ticket()
    doorway = Doorway(asking.key_id or asking.id, purpose, issuers)
    token = tokens.parse(text) if text else None
    told = passes.found(doorway) if "pass_seconds" in given else None
    if told and (token is None or token.id == told.id):
        logs.note("token.passed", token_id=told.id)
        return passed(told, purpose)
    if token is None:
        raise Problem("ticket_missing")
    audit.note(purpose=purpose)
    room = ROOM if given.get("data") else 0
    presented = Presented(text, purpose, issuers=issuers_of(given), asked=issuers, room=room)
    count(LIMIT, call())
    key = idempotency_key(request.headers.get("Idempotency-Key") or None)
    call().is_consuming = True
    try:
        used = consumed("token.validated", tokens.validate(presented, asking, key=key))
    except TokenRefused:
        limits.give_back()  # Else strangers, or a used ticket, could close the gate.
        raise
    seconds = given.get("pass_seconds", 0)
    data = encoded(used.data) if room else ""
    told = Pass(used.id, used.subject, used.owner, int(time.time()) + seconds, data)
    response = passed(told, purpose)
    if seconds:
        passes.give(response, doorway, told, seconds)
    return response


def ticket() -> str:
    """The ticket of the request that the proxy asks about; "" where it has none."""
    headers = request.headers
    if text := headers.get("X-One-Time-Token", ""):
        return text
    offered = [word.strip() for word in headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if "ott" in offered[:-1]:
        return offered[offered.index("ott") + 1]
    for name in ("X-Original-URI", "X-Forwarded-Uri"):
        if address := headers.get(name):
            return parse_qs(urlsplit(address).query).get("ticket", [""])[0]
    return ""


def passed(told: Pass, purpose: str) -> Response:
    """The response for a ticket that was consumed, now or for the pass of this browser."""
    response = Response(status=204)
    response.headers["X-Token-Id"] = told.id
    response.headers["X-Token-Subject"] = quote(told.subject, safe="")
    response.headers["X-Token-Issued-By"] = told.owner
    response.headers["X-Token-Purpose"] = purpose
    if told.data:
        response.headers["X-Token-Data"] = told.data
    return response


@blueprint.errorhandler(Exception)
def refuse(error: Exception) -> Response:
    """Write a refusal with a status that proxies know, and its code in a header."""
    problem = of_http(error) if isinstance(error, HTTPException) else explanations(error)
    response = respond(problem, status_of(problem.code))
    if response.status_code == 503:
        response.headers.setdefault("Retry-After", RETRY_SOON["Retry-After"])
    response.headers["X-Token-Code"] = problem.code
    return response
