"""Requests and responses of /token. No look-ups here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, pre_load, validate, validates_schema

from tokenservice.extensions import config
from tokenservice.onetime.values import State
from tokenservice.token.fields import (
    Bind,
    Flag,
    JsonObject,
    issuers_field,
    members_field,
    purpose_field,
)
from tokenservice.web import texts
from tokenservice.web.fields import OptionalText, Text, matching
from tokenservice.web.schemas import Request, Response

#: The beginning of the purposes with which the service creates tokens for its own use.
RESERVED = "auth."
STATES = [state.value for state in State]

# Of the examples, which work one after the other: the account of the first registers, logs in,
# creates, and consumes.
TOKEN, PURPOSE, SUBJECT, ISSUER = "ott_0042…", "ws.connect", "order 7", "ana@example.com"
BOUND = {"purpose": PURPOSE, "subject": SUBJECT, "data": {"room": 7}, "expires_in": 60}
EXPECTED = {"token": TOKEN, "purpose": PURPOSE, "issued_by": [ISSUER]}


def within_longest_life(seconds: int) -> None:
    if seconds > config.onetime_token_max_seconds:
        raise ValidationError("Longer than this service allows.")


def not_reserved(purpose: str) -> None:
    if purpose.startswith(RESERVED):
        raise ValidationError("Reserved for the service itself.")


class CreateTokenRequest(Request):
    """The terms of a token. Every field is optional."""

    examples: ClassVar = {"smallest": {"purpose": PURPOSE}, "bound": BOUND}
    expires_in = fields.Integer(
        strict=True,
        load_default=lambda: config.onetime_token_expire_seconds,
        validate=[validate.Range(min=1, error="Takes at least 1 second."), within_longest_life],
        metadata={"description": "life in seconds", "example": 60},
    )
    purpose = purpose_field(not_reserved)
    audience = members_field("the only accounts that may consume it")
    allow_unregistered = Flag(
        load_default=False,
        metadata={
            "description": "its audience may name an address without an account, "
            "for the account that registers it first"
        },
    )
    subject = Text(
        1, 255, metadata={"description": "the party it speaks for", "example": "order 7"}
    )
    require_subject = Flag(
        load_default=False,
        metadata={"description": "its consumer must name the subject, or is refused"},
    )
    data = JsonObject(metadata={"description": "handed to its consumer", "example": {"room": 7}})
    bind = Bind(metadata={"description": "SHA-256 of the approved action", "example": "0f" * 32})


class CreateTokensRequest(CreateTokenRequest):
    """A batch of tokens with the same terms."""

    examples: ClassVar = {
        "smallest": {"count": 3, "purpose": PURPOSE},
        "bound": {"count": 3, **BOUND},
    }
    count = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(1, 100, error="Takes 1 to 100."),
        metadata={"example": 3},
    )


class CreateTokenResponse(Response):
    token = fields.String(metadata={"description": "shown once", "example": "ott_0042…"})
    id = fields.String(metadata={"description": "public; safe in logs and URLs"})
    expires_in = fields.Integer(
        metadata={"description": "seconds left; 0 where it is neither active nor reserved"}
    )
    expires_at = fields.DateTime()
    server_time = fields.DateTime()
    purpose = OptionalText()
    audience = fields.List(
        fields.String(),
        allow_none=True,
        metadata={"description": "ids; addresses only where they had no account"},
    )
    subject = fields.String()
    state = fields.String(validate=validate.OneOf(STATES))
    replayed = fields.Boolean(metadata={"description": "an earlier call created it"})


class CreateTokensResponse(Response):
    tokens = fields.List(fields.Nested(CreateTokenResponse))


class TokenRequest(Request):
    """A token."""

    examples: ClassVar = {"smallest": {"token": TOKEN}}
    token = fields.String(required=True, metadata={"example": TOKEN})


class RevokeAllRequest(Request):
    """A part of one's own tokens; empty means all."""

    examples: ClassVar = {"smallest": {"purpose": PURPOSE}}
    purpose = purpose_field()
    subject = Text(1, 255, metadata={"example": "order 7"})

    @validates_schema
    def names_one_part(self, given: Mapping[str, Any], **_: Any) -> None:
        if len(given) > 1:
            raise ValidationError("Takes a purpose or a subject, and not both.", "subject")


class ValidateRequest(TokenRequest):
    """A token, and the terms that its presenter expects."""

    examples: ClassVar = {"smallest": EXPECTED, "bound": {**EXPECTED, "subject": SUBJECT}}
    purpose = purpose_field()
    subject = Text(1, 255, metadata={"example": "order 7"})
    bind = Bind(metadata={"example": "0f" * 32})
    issued_by = issuers_field()


class ReserveRequest(ValidateRequest):
    examples: ClassVar = {
        "smallest": EXPECTED,
        "bound": {**EXPECTED, "subject": SUBJECT, "lease_seconds": 30},
    }
    lease_seconds = fields.Integer(
        strict=True,
        load_default=30,
        validate=validate.Range(1, 60, error="Takes 1 to 60 seconds."),
        metadata={"description": "how long it is held", "example": 30},
    )


class IntrospectRequest(TokenRequest):
    """A token, and the issuers that its reader expects."""

    examples: ClassVar = {"smallest": {"token": TOKEN, "issued_by": [ISSUER]}}
    issued_by = issuers_field()


class GateRequest(Request):
    """What a proxy asks of the ticket of a request."""

    purpose = purpose_field(required=True)
    issued_by = issuers_field(required=True)
    pass_seconds = fields.Integer(
        validate=validate.Range(1, 300, error="Takes 1 to 300 seconds."),
        metadata={"description": "how long the browser passes again, by a cookie", "example": 60},
    )
    data = fields.Boolean(
        metadata={"description": "X-Token-Data is wanted; data over 1,536 bytes are refused"},
    )


class ReservationRequest(Request):
    """A reservation."""

    reservation = fields.String(required=True, metadata={"example": "otr_0042…"})


class GrantResponse(Response):
    """Fields common to a consumed and a reserved token."""

    id = fields.String()
    subject = fields.String()
    purpose = OptionalText()
    data = JsonObject(allow_none=True)
    issued_by = fields.String(attribute="owner")
    issued_with = fields.String(allow_none=True, metadata={"description": "the creator's key"})
    created_at = fields.DateTime()


class ValidateResponse(GrantResponse):
    message = fields.Function(
        lambda _: TOKEN_VALID[texts.language()],
        metadata={"type": "string", "example": "Token válido: queda utilizado."},
    )
    valid = fields.Constant(True, metadata={"type": "boolean", "example": True})
    consumed_at = fields.DateTime()
    consumed_with = fields.String(allow_none=True, metadata={"description": "the caller's key"})
    replayed = fields.Boolean(metadata={"description": "the response to an earlier call"})


class ReserveResponse(GrantResponse):
    reservation = fields.String(
        attribute="text", metadata={"description": "shown once", "example": "otr_0042…"}
    )
    lease_expires_at = fields.DateTime()


class IntrospectResponse(Response):
    """RFC 7662: ``{"active": false}`` and nothing more, or the state of the token."""

    may_lack = frozenset(
        {
            *("id", "state", "expires_in", "expires_at", "created_at", "purpose", "audience"),
            *("subject", "issued_by", "issued_with", "bound"),
        }
    )
    active = fields.Boolean()
    id = fields.String()
    state = fields.String()
    expires_in = fields.Float(metadata={"description": "seconds left"})
    expires_at = fields.DateTime()
    created_at = fields.DateTime()
    purpose = OptionalText()
    audience = fields.List(fields.String(), allow_none=True)
    subject = fields.String()
    issued_by = fields.String()
    issued_with = fields.String(allow_none=True, metadata={"description": "the creator's key"})
    bound = fields.Boolean(metadata={"description": "it approves one action only"})


class ReceiptResponse(Response):
    id = fields.String()
    state = fields.String(validate=validate.OneOf(STATES))
    purpose = OptionalText()
    subject = fields.String()
    created_at = fields.DateTime()
    expires_at = fields.DateTime()
    consumed_at = fields.DateTime(allow_none=True)
    consumed_by = fields.String(allow_none=True)
    issued_with = fields.String(allow_none=True, metadata={"description": "the creator's key"})
    consumed_with = fields.String(allow_none=True, metadata={"description": "the consumer's key"})
    replays = fields.Integer(metadata={"description": "how often it was presented again"})


class ListRequest(Request):
    """A filter of one's own tokens; a parameter without a value is as none."""

    state = fields.String(validate=validate.OneOf(STATES, error="Not a state of a token."))
    purpose = purpose_field()
    cursor = matching("[0-9]{1,20}", "Not a cursor of this list.")
    limit = fields.Integer(load_default=20, validate=validate.Range(1, 20, error="Takes 1 to 20."))

    @pre_load
    def empty_is_absent(self, given: Any, **_: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value}


class ListResponse(Response):
    items = fields.List(fields.Nested(ReceiptResponse))
    next_cursor = OptionalText(metadata={"description": "null at the end"})


TOKEN_VALID: Mapping[texts.Language, str] = {
    "es": "Token válido: queda utilizado.",
    "en": "Valid token: it is now used up.",
}
