"""Service keys for standard clients: tokens (RFC 6749), revocation (RFC 7009), metadata (RFC 8414).

These calls take forms and answer with the errors of RFC 6749 section 5.2, not with problems; only
what is refused before them (a limit, an outage) is a problem here too.
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from flask import Flask, Response, jsonify, request
from flask_jwt_extended import create_access_token
from sqlalchemy import select

from config import Config
from tokenservice.auth import refresh_tokens, sessions
from tokenservice.auth.authentication import caller_with_key
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.callers import Caller
from tokenservice.auth.jwts import OF_KEY, claims_of
from tokenservice.auth.keys import end_key
from tokenservice.auth.models import ServiceKey, Session
from tokenservice.auth.rights import NOBODY, PREFIX, SCOPES, Key, KeyText
from tokenservice.auth.schemas import ClientTokenResponse, OAuthErrorResponse, RevokedResponse
from tokenservice.extensions import config, db
from tokenservice.onetime.errors import TokenMalformed
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import logs
from tokenservice.telemetry.audit import audited
from tokenservice.web.bodies import FORM
from tokenservice.web.limits import by_address, limited
from tokenservice.web.problems import Problem
from tokenservice.web.responses import written
from tokenservice.web.views import foreign, operation, public

METADATA_PATH = "/.well-known/oauth-authorization-server"
CLIENT = {"client_id": {"type": "string"}, "client_secret": {"type": "string"}}


class OAuthError(Exception):
    """An error of RFC 6749 section 5.2, or of RFC 7009 section 2.2.1."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error, self.description = error, description


def form_of(required: str, **members: dict[str, Any]) -> dict[str, Any]:
    """The description of a form in the OpenAPI document."""
    schema = {"type": "object", "properties": {**members, **CLIENT}, "required": [required]}
    return {"required": True, "content": {FORM: {"schema": schema}}}


@blueprint.route("/token", methods=["POST"])
@audited
@public
@foreign
@limited("validate", by_address)
@blueprint.response(200, ClientTokenResponse())
@blueprint.alt_response(400, schema=OAuthErrorResponse())
@blueprint.alt_response(401, schema=OAuthErrorResponse())
@blueprint.doc(
    requestBody=form_of(
        "grant_type",
        grant_type={"type": "string", "enum": ["client_credentials"]},
        scope={"type": "string", "example": "token:create token:consume"},
    )
)
@operation("clientToken", "database_unavailable")
def token() -> dict[str, Any]:
    """Get a JWT for a service key (RFC 6749 section 4.4)

    With HTTP Basic, the key's id and the key; or with the key as client_secret. Calls of such a JWT
    are calls of the key.
    """
    form = read_form()
    caller, key = client_of(form) or refuse_client("Client authentication is missing.")
    if form.get("grant_type") is None:
        raise OAuthError("invalid_request", "grant_type is missing.")
    if form["grant_type"] != "client_credentials":
        raise OAuthError("unsupported_grant_type", "Only client_credentials is supported.")
    wanted = set(form["scope"].split(" ")) if "scope" in form else key.scopes
    if not wanted <= key.scopes:
        raise OAuthError("invalid_scope", "The key lacks one of these scopes.")
    scope = " ".join(sorted(wanted))
    seconds = min(config.access_token_expire_minutes * 60, key.seconds_left)
    logs.note("key.token", user_id=caller.id, key_id=key.id)
    claims = {"type": OF_KEY, "key": key.id, "scope": scope}
    life = timedelta(seconds=seconds)
    return {
        "access_token": create_access_token(caller.id, False, life, claims),
        "token_type": "Bearer",
        "expires_in": int(seconds),
        "scope": scope,
    }


@blueprint.route("/revoke", methods=["POST"])
@audited
@public
@foreign
@limited("validate", by_address)
@blueprint.response(200, RevokedResponse())
@blueprint.alt_response(400, schema=OAuthErrorResponse())
@blueprint.alt_response(401, schema=OAuthErrorResponse())
@blueprint.doc(
    requestBody=form_of("token", token={"type": "string"}, token_type_hint={"type": "string"})
)
@operation("revokeCredentials", "database_unavailable")
def revoke() -> dict[str, Any]:
    """Revoke a service key, or end a session, by the text of its key or refresh token (RFC 7009)

    The text alone is enough; credentials of a client, where they are sent, must be right.
    What is unknown is 200 too. A JWT is not revoked: it ends with its key or session.
    """
    form = read_form()
    client_of(form)
    text = form.get("token")
    if text is None:
        raise OAuthError("invalid_request", "token is missing.")
    if text.startswith(PREFIX):
        revoke_key(text)
    elif text.startswith(refresh_tokens.PREFIX):
        end_session(text)
    elif is_jwt(text):
        why = "A JWT is not revoked: revoke its key, or its refresh token."
        raise OAuthError("unsupported_token_type", why)
    return {}


def revoke_key(text: str) -> None:
    """Revoke the key with this text, if there is one."""
    try:
        presented = KeyText.parse(text)
    except TokenMalformed:
        return
    with asking():
        stored = db.session.scalar(
            select(ServiceKey.secret_hash).where(ServiceKey.id == presented.id)
        )
    if hmac.compare_digest(stored or NOBODY, presented.verifier) and end_key(presented.id):
        logs.note("key.revoked", key_id=presented.id)


def end_session(text: str) -> None:
    """End the session of a refresh token, also of one that was spent, if there is one."""
    try:
        token = refresh_tokens.refresh_tokens.parse(text)
    except TokenMalformed:
        return
    with asking():
        count = sessions.end("revoked", Session.id == token.session)
        db.session.commit()
    if count:
        logs.note("session.ended", why="revoked", session_id=str(token.session))


def is_jwt(text: str) -> bool:
    """Tell whether this is a current JWT of this service."""
    try:
        claims_of(text)
    except Problem:
        return False
    return True


def read_form() -> dict[str, str]:
    """The members of the form that have a value (RFC 6749 section 3.2).

    :raises OAuthError: it is no form, or has a member twice
    """
    if request.mimetype != FORM:
        raise OAuthError("invalid_request", "The body is not a form.")
    if any(len(values) > 1 for values in request.form.listvalues()):
        raise OAuthError("invalid_request", "A member of the form stands there twice.")
    return {name: value for name, value in request.form.items() if value}


def client_of(form: dict[str, str]) -> tuple[Caller, Key] | None:
    """The caller and the key of a client; None where it sends no credentials (RFC 6749, 2.3.1).

    :raises OAuthError: they are not right
    """
    given = request.authorization
    if given is None and "Authorization" not in request.headers:
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if secret is None:
            return None
    elif given is None or given.type != "basic":
        refuse_client("The client must authenticate with Basic.")
    elif "client_secret" in form:
        raise OAuthError("invalid_request", "The client authenticates twice.")
    else:
        # Each is encoded as in a form before it is put into Basic.
        client_id, secret = (unquote_plus(part or "") for part in (given.username, given.password))
    try:
        caller = caller_with_key(secret or "")
    except Problem:
        refuse_client("The key is not valid.")
    if caller.key is None or client_id not in (None, caller.key.id):
        refuse_client("The key is not valid.")
    return caller, caller.key


def refuse_client(why: str) -> NoReturn:
    raise OAuthError("invalid_client", why)


def respond(error: OAuthError) -> Response:
    """Write an error as RFC 6749 says."""
    status = 401 if error.error == "invalid_client" else 400
    body = {"error": error.error, "error_description": error.description}
    plain = written(status, body)
    response = Response(plain.body, plain.status, plain.headers)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="token-service"'
    logs.note("key.refused" if status == 401 else "http.refused", code=error.error)
    return response


@public
def metadata() -> Response:
    """What a standard client needs to know (RFC 8414)."""
    url = config.public_url
    if not url:
        raise Problem("not_found")
    methods = ["client_secret_basic", "client_secret_post"]
    pages = {"service_documentation": f"{url}/docs"} if config.docs_enabled else {}
    # Of the response types one is demanded, and an empty list forbidden (sections 2 and 3.2). There
    # is no authorization endpoint, so it is the one that gives nothing.
    return jsonify(
        issuer=url,
        token_endpoint=f"{url}/auth/token",
        token_endpoint_auth_methods_supported=methods,
        grant_types_supported=["client_credentials"],
        response_types_supported=["none"],
        scopes_supported=list(SCOPES),
        revocation_endpoint=f"{url}/auth/revoke",
        revocation_endpoint_auth_methods_supported=[*methods, "none"],
        **pages,
    )


def init_app(app: Flask, config: Config) -> None:
    app.register_error_handler(OAuthError, respond)
    app.add_url_rule(METADATA_PATH, "auth_metadata", metadata)
