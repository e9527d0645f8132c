"""The wire shapes: what a body may hold, and what an answer holds. No look-ups here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Request
from marshmallow import (
    INCLUDE,
    Schema,
    ValidationError,
    fields,
    pre_load,
    validate,
    validates_schema,
)
from webargs.core import is_json
from webargs.flaskparser import FlaskParser, abort

from tokenservice.auth import passwords
from tokenservice.onetime.values import State
from tokenservice.web import fields as kinds
from tokenservice.web import strictjson

STATES = [state.value for state in State]
FORM = "application/x-www-form-urlencoded"


class BodyParser(FlaskParser):
    """Read a body strictly; no body at all reads as an empty object."""

    def load_json(self, req: Request, schema: Any) -> Any:
        body = req.get_data(cache=True)
        if not body:
            return {}
        if not is_json(req.mimetype):
            abort(415)
        try:
            return strictjson.loads(body)
        except ValueError:
            abort(400, not_json=True)

    def load_credentials(self, req: Request, schema: Any) -> Any:
        """Read a login as JSON, or as the form of OAuth 2 (RFC 6749 section 4.3.2)."""
        if req.mimetype != FORM:
            return self.load_json(req, schema)
        names = {"username": "correo", "password": "password"}
        return {field: req.form[name] for name, field in names.items() if name in req.form}


BodyParser.__location_map__ = {
    **FlaskParser.__location_map__,
    "credentials": "load_credentials",
}
parser = BodyParser()


class Registered(Schema):
    """A new account, whose password was judged before."""

    password = kinds.Password(
        required=True,
        validate=validate.Length(
            passwords.MIN_LENGTH, passwords.MAX_LENGTH, error="Takes 8 to 128 characters."
        ),
        metadata={"example": "tres tristes tigres en un trigal", "format": "password"},
    )
    nombre: fields.String = kinds.Text(1, 100, required=True, metadata={"example": "Ana"})
    correo: fields.String = kinds.Correo(
        required=True, metadata={"example": "ana@example.com", "format": "email"}
    )


class Registration(Registered):
    """A new account."""

    @validates_schema
    def not_guessable(self, given: dict[str, str], **_: Any) -> None:
        if passwords.is_guessable(given["password"], [given["nombre"], given["correo"]]):
            raise ValidationError(passwords.TOO_EASY, "password")


class NewPassword(Registration):
    """Another password of an account, whose name and address stay as they are."""

    nombre = fields.String(required=True)
    correo = fields.String(required=True)


class Credentials(Schema):
    """A login. The password only has to be of a length that can be hashed."""

    correo = kinds.Correo(required=True, metadata={"example": "ana@example.com", "format": "email"})
    password = kinds.Password(
        required=True,
        validate=validate.Length(max=256, error="Takes up to 256 characters."),
        metadata={"example": "tres tristes tigres en un trigal", "format": "password"},
    )


class Answer(Schema):
    """What clients read: they are told to expect more members one day."""

    class Meta:
        unknown = INCLUDE


class Account(Answer):
    id = fields.UUID(dump_only=True)
    nombre = fields.String()
    correo = fields.String()
    is_active = fields.Boolean()
    created_at = fields.DateTime()


class AccessToken(Answer):
    access_token = fields.String(metadata={"example": "eyJhbGciOiJIUzI1NiJ9.…"})
    token_type = fields.String(metadata={"example": "bearer"})
    expires_in = fields.Integer(metadata={"description": "seconds", "example": 900})


class NewToken(Schema):
    """What a token is bound to. Every field is optional."""

    expires_in = fields.Integer(
        strict=True,
        validate=validate.Range(min=1, error="Takes at least 1 second."),
        metadata={"description": "life in seconds", "example": 60},
    )
    purpose = kinds.purpose()
    audience = fields.List(
        kinds.Member(metadata={"example": "luis@example.com"}),
        validate=validate.Length(1, 16, error="Takes 1 to 16 members."),
        metadata={"description": "who alone may validate it"},
    )
    subject = kinds.Text(
        1, 255, metadata={"description": "whom it speaks for", "example": "order 7"}
    )
    data = kinds.JsonObject(
        metadata={"description": "handed to whoever validates it", "example": {"room": 7}}
    )
    bind = kinds.Bind(
        metadata={"description": "SHA-256 of the action it approves", "example": "0f" * 32}
    )


class NewTokens(NewToken):
    """A batch of tokens that differ in nothing but themselves."""

    count = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(1, 100, error="Takes 1 to 100."),
        metadata={"example": 3},
    )


class CreatedToken(Answer):
    token = fields.String(metadata={"description": "shown once", "example": "ott_0042…"})
    id = fields.String(metadata={"description": "public; safe in logs and URLs"})
    expires_in = fields.Integer(metadata={"description": "seconds"})
    expires_at = fields.DateTime()
    server_time = fields.DateTime()
    purpose = fields.String(allow_none=True)
    audience = fields.List(fields.String(), allow_none=True)
    subject = fields.String()


class CreatedTokens(Answer):
    tokens = fields.List(fields.Nested(CreatedToken))


class OnlyToken(Schema):
    token = fields.String(required=True, metadata={"example": "ott_0042…"})


class PresentedToken(OnlyToken):
    """A token, and what its presenter takes it to be bound to."""

    purpose = kinds.purpose()
    subject = kinds.Text(1, 255, metadata={"example": "order 7"})
    bind = kinds.Bind(metadata={"example": "0f" * 32})


class ReservedToken(PresentedToken):
    lease_seconds = fields.Integer(
        strict=True,
        load_default=30,
        validate=validate.Range(1, 60, error="Takes 1 to 60 seconds."),
        metadata={"description": "how long it is held", "example": 30},
    )


class Reservation(Schema):
    reservation = fields.String(required=True, metadata={"example": "otr_0042…"})


class Held(Answer):
    id = fields.String()
    subject = fields.String()
    purpose = fields.String(allow_none=True)
    data = kinds.JsonObject(allow_none=True)
    issued_by = fields.String()
    created_at = fields.DateTime()


class ConsumedToken(Held):
    message = fields.String(metadata={"example": "Token válido: queda utilizado."})
    valid = fields.Boolean(metadata={"example": True})
    consumed_at = fields.DateTime()
    replayed = fields.Boolean(metadata={"description": "this answer was given before"})


class HeldToken(Held):
    reservation = fields.String(metadata={"description": "shown once", "example": "otr_0042…"})
    lease_expires_at = fields.DateTime()


class Introspection(Answer):
    """RFC 7662: ``{"active": false}`` and nothing more, or what the token is."""

    active = fields.Boolean(required=True)
    id = fields.String()
    state = fields.String()
    expires_in = fields.Float(metadata={"description": "seconds left"})
    expires_at = fields.DateTime()
    created_at = fields.DateTime()
    purpose = fields.String(allow_none=True)
    audience = fields.List(fields.String(), allow_none=True)
    subject = fields.String()
    issued_by = fields.String()
    bound = fields.Boolean(metadata={"description": "it approves one action only"})


class Receipt(Answer):
    id = fields.String()
    state = fields.String(validate=validate.OneOf(STATES))
    purpose = fields.String(allow_none=True)
    subject = fields.String()
    created_at = fields.DateTime()
    expires_at = fields.DateTime()
    consumed_at = fields.DateTime(allow_none=True)
    consumed_by = fields.String(allow_none=True)
    replays = fields.Integer(metadata={"description": "times it was presented again"})


class ListQuery(Schema):
    """What of one's tokens to list; a parameter without a value is as none."""

    state = fields.String(validate=validate.OneOf(STATES, error="Not a state of a token."))
    purpose = kinds.purpose()
    cursor = kinds.matching("[0-9]{1,20}", "Not a cursor of this list.")
    limit = fields.Integer(load_default=20, validate=validate.Range(1, 20, error="Takes 1 to 20."))

    @pre_load
    def empty_is_absent(self, given: Any, **_: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value}


class Page(Answer):
    items = fields.List(fields.Nested(Receipt))
    next_cursor = fields.String(allow_none=True, metadata={"description": "null at the end"})


class ProblemDetails(Answer):
    """RFC 9457."""

    type = fields.String(metadata={"example": "/problems/token_already_used"})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    code = fields.String(metadata={"description": "stable; what a client switches on"})
    request_id = fields.String()
    errors = fields.Dict(metadata={"description": "by field"})
