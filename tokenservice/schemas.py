"""The wire shapes: what a body may hold, and what an answer holds. No look-ups here."""

from __future__ import annotations

from typing import Any

from flask import Request
from marshmallow import (
    INCLUDE,
    Schema,
    ValidationError,
    fields,
    validate,
    validates_schema,
)
from webargs.core import is_json
from webargs.flaskparser import FlaskParser, abort

from tokenservice import correo as correos
from tokenservice import passwords, strictjson

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


class Text(fields.String):
    """A text without control characters; length counted in code points, after trimming."""

    def __init__(self, low: int, high: int, **options: Any) -> None:
        error = f"Takes {low} to {high} characters."
        super().__init__(validate=validate.Length(low, high, error=error), **options)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs).strip()
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise ValidationError("Control characters are not allowed.")
        return text


class Correo(fields.String):
    """An e-mail address, read in its canonical spelling."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return correos.canonical(super()._deserialize(value, *args, **kwargs))
        except ValueError:
            raise ValidationError("Not an e-mail address.") from None


class Password(fields.String):
    """A password, NFKC, never trimmed, truncated or folded (ASVS 5.0 V6.2.8)."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        return passwords.normalized(super()._deserialize(value, *args, **kwargs))


class NewPassword(Schema):
    """A password that someone chooses."""

    password = Password(
        required=True,
        validate=validate.Length(
            passwords.MIN_LENGTH,
            passwords.MAX_LENGTH,
            error="Takes 8 to 128 characters.",
        ),
        metadata={"example": "tres tristes tigres en un trigal", "format": "password"},
    )


class Registration(NewPassword):
    nombre = Text(1, 100, required=True, metadata={"example": "Ana"})
    correo = Correo(required=True, metadata={"example": "ana@example.com", "format": "email"})

    @validates_schema
    def not_guessable(self, given: dict[str, str], **_: Any) -> None:
        if passwords.is_guessable(given["password"], [given["nombre"], given["correo"]]):
            raise ValidationError(passwords.TOO_EASY, "password")


class Credentials(Schema):
    """A login. The password only has to be of a length that can be hashed."""

    correo = Correo(required=True, metadata={"example": "ana@example.com", "format": "email"})
    password = Password(
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
    expires_in = fields.Integer(
        strict=True,
        validate=validate.Range(min=1, error="Takes at least 1 second."),
        metadata={"description": "life in seconds", "example": 10},
    )


class CreatedToken(Answer):
    token = fields.String(metadata={"description": "shown once", "example": "ott_0042…"})
    id = fields.String(metadata={"description": "public; safe in logs"})
    expires_in = fields.Integer(metadata={"description": "seconds"})
    expires_at = fields.DateTime()
    server_time = fields.DateTime()
    subject = fields.String()


class PresentedToken(Schema):
    token = fields.String(required=True, metadata={"example": "ott_0042…"})


class ConsumedToken(Answer):
    message = fields.String(metadata={"example": "Token válido"})
    valid = fields.Boolean(metadata={"example": True})
    id = fields.String()
    subject = fields.String()
    issued_by = fields.String()
    created_at = fields.DateTime()
    consumed_at = fields.DateTime()
    replayed = fields.Boolean()


class ProblemDetails(Answer):
    """RFC 9457."""

    type = fields.String(metadata={"example": "/problems/token_already_used"})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    code = fields.String(metadata={"description": "stable; what a client switches on"})
    request_id = fields.String()
    errors = fields.Dict(metadata={"description": "by field"})
