"""Requests and responses of /auth. No look-ups here."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from tokenservice.auth import passwords
from tokenservice.auth.fields import Cidr, Correo, Moment, Password, Rate
from tokenservice.auth.rights import SCOPES
from tokenservice.web.fields import Text, matching
from tokenservice.web.schemas import ALIAS, Aliased, Request, Response

LONGEST_KEY_SECONDS = 10 * 366 * 86_400
#: Of the examples, which work one after the other.
EXAMPLE_PASSWORD = "tres tristes tigres en un trigal"  # noqa: S105 - of an example
CREDENTIALS = {"correo": "ana@example.com", "password": EXAMPLE_PASSWORD}


def other_name(field: str) -> dict[str, str]:
    """The metadata of another name of ``field``."""
    return {ALIAS: field, "description": f"another name of {field}; never both"}


def old_password() -> fields.String:
    """A password that is compared. It is bounded only so that it can be hashed."""
    return Password(
        required=True,
        validate=validate.Length(max=256, error="Takes up to 256 characters."),
        metadata={"example": EXAMPLE_PASSWORD, "format": "password"},
    )


def new_password() -> fields.String:
    """A password that is set. Its strength depends on the account."""
    return Password(
        required=True,
        validate=validate.Length(
            passwords.MIN_LENGTH, passwords.MAX_LENGTH, error="Takes 8 to 128 characters."
        ),
        metadata={"example": EXAMPLE_PASSWORD, "format": "password"},
    )


class AccountFields(Schema):
    """The fields of a new account, without a check of the password's strength."""

    password = new_password()
    nombre: fields.String = Text(1, 100, required=True, metadata={"example": "Ana"})
    correo: fields.String = Correo(
        required=True, metadata={"example": "ana@example.com", "format": "email"}
    )


class NewAccount(AccountFields):
    """A new account."""

    @validates_schema
    def not_guessable(self, given: dict[str, str], **_: Any) -> None:
        if passwords.is_guessable(given["password"], [given["nombre"], given["correo"]]):
            raise ValidationError(passwords.TOO_EASY, "password")


class RegisterRequest(Aliased, NewAccount):
    """A new account, with the names of its fields in two languages."""

    examples: ClassVar = {"smallest": {"nombre": "Ana", **CREDENTIALS}}
    name = Text(1, 100, metadata={**other_name("nombre"), "example": "Ana"})
    email = Correo(metadata=other_name("correo"))


class PasswordChange(NewAccount):
    """A new password of an account whose name and address stay."""

    nombre = fields.String(required=True)
    correo = fields.String(required=True)


class PasswordRequest(Request):
    """Another password, and the one that it replaces."""

    old = old_password()
    new = new_password()


class ResetRequest(Request):
    """A reset token, and the password that it sets."""

    token = fields.String(required=True, metadata={"example": "ott_0042…"})
    password = new_password()


class EraseRequest(Request):
    """The password once more."""

    password = old_password()


class RefreshRequest(Request):
    """A refresh token."""

    refresh_token = fields.String(required=True, metadata={"example": "osr_0042…"})


class LoginRequest(Aliased):
    """A login."""

    examples: ClassVar = {"smallest": CREDENTIALS}
    correo = Correo(required=True, metadata={"example": "ana@example.com", "format": "email"})
    password = old_password()
    email = Correo(metadata=other_name("correo"))


class AccountResponse(Response):
    id = fields.UUID(dump_only=True)
    nombre = fields.String()
    correo = fields.String()
    is_active = fields.Boolean()
    created_at = Moment()


class LoginResponse(Response):
    may_lack = frozenset({"refresh_token"})
    access_token = fields.String(metadata={"example": "eyJhbGciOiJIUzI1NiJ9.…"})
    token_type = fields.String(metadata={"example": "bearer"})
    expires_in = fields.Integer(metadata={"description": "seconds", "example": 900})
    refresh_token = fields.String(
        metadata={"description": "for `/auth/refresh`; absent while Postgres is read-only"}
    )


#: Rates of a key's own. Not as a class: ``validate`` is a method of each schema.
KeyLimits = Schema.from_dict(
    {
        "create": Rate(metadata={"example": "10 per minute"}),
        "validate": Rate(metadata={"example": "100 per minute"}),
    },
    name="KeyLimits",
)


class KeyRequest(Request):
    """A new service key."""

    examples: ClassVar = {
        "smallest": {"name": "billing", "scopes": ["token:consume"]},
        "bound": {
            "name": "gateway",
            "scopes": ["token:create", "token:consume"],
            "purposes": ["ws.*"],
            "expires_in": 86_400,
        },
    }
    name = Text(1, 100, required=True, metadata={"example": "billing"})
    scopes = fields.List(
        fields.String(validate=validate.OneOf(SCOPES, error="Not a scope.")),
        required=True,
        validate=validate.Length(1, 4, error="Takes 1 to 4 scopes."),
        metadata={"example": ["token:consume"]},
    )
    purposes = fields.List(
        matching(
            r"([a-z0-9._:-]{1,64}|[a-z0-9._:-]{0,63}\*)",
            "Takes a purpose, or its beginning and a *.",
            metadata={"example": "ws.*"},
        ),
        load_default=list,
        validate=validate.Length(1, 16, error="Takes 1 to 16 members."),
        metadata={"description": "the only ones that it may create and consume"},
    )
    cidrs = fields.List(
        Cidr(metadata={"example": "192.0.2.0/24"}),
        load_default=list,
        validate=validate.Length(1, 16, error="Takes 1 to 16 members."),
        metadata={"description": "the only networks that it may come from"},
    )
    expires_in = fields.Integer(
        strict=True,
        validate=validate.Range(1, LONGEST_KEY_SECONDS, error="Takes 1 second to 10 years."),
        metadata={"description": "life in seconds; without it, until it is revoked"},
    )
    limits = fields.Nested(KeyLimits, load_default=dict)


class KeyResponse(Response):
    id = fields.String(metadata={"description": "public; safe in logs and URLs"})
    name = fields.String()
    scopes = fields.List(fields.String())
    purposes = fields.List(fields.String(), metadata={"description": "any, where it is empty"})
    cidrs = fields.List(fields.String(), metadata={"description": "any, where it is empty"})
    limits = fields.Dict(keys=fields.String(), values=fields.String())
    own_quota = fields.Boolean(
        metadata={"description": "its limits stand in place of the account's"}
    )
    created_at = Moment()
    expires_at = Moment(allow_none=True)
    last_used_on = fields.Date(allow_none=True)


class NewKeyResponse(KeyResponse):
    key = fields.String(metadata={"description": "shown once", "example": "osk_0042…"})


class KeysResponse(Response):
    items = fields.List(fields.Nested(KeyResponse))


class ClientTokenResponse(Response):
    """RFC 6749 section 5.1."""

    access_token = fields.String(metadata={"example": "eyJhbGciOiJIUzI1NiJ9.…"})
    token_type = fields.String(metadata={"example": "Bearer"})
    expires_in = fields.Integer(metadata={"description": "seconds", "example": 900})
    scope = fields.String(metadata={"example": "token:create token:consume"})


class RevokedResponse(Response):
    """RFC 7009 section 2.2: the status says all."""


class OAuthErrorResponse(Response):
    """RFC 6749 section 5.2."""

    error = fields.String(metadata={"example": "invalid_client"})
    error_description = fields.String()


class SessionResponse(Response):
    id = fields.UUID()
    created_at = Moment()
    rotated_at = Moment(metadata={"description": "the last refresh"})
    user_agent = fields.String()
    address = fields.String()
    current = fields.Boolean(metadata={"description": "the session of this call"})


class SessionsResponse(Response):
    items = fields.List(fields.Nested(SessionResponse))


class StoredSessionResponse(SessionResponse):
    """A session as it is exported, ended or not."""

    ended_at = Moment()
    ended_why = fields.String()
