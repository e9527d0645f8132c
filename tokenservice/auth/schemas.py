"""Requests and responses of /auth. No look-ups here."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from tokenservice.auth import passwords
from tokenservice.auth.fields import Correo, Moment, Password
from tokenservice.web.fields import Text
from tokenservice.web.schemas import ALIAS, Aliased, Response


def other_name(field: str) -> dict[str, str]:
    """The metadata of another name of ``field``."""
    return {ALIAS: field, "description": f"another name of {field}; never both"}


class AccountFields(Schema):
    """The fields of a new account, without a check of the password's strength."""

    password = Password(
        required=True,
        validate=validate.Length(
            passwords.MIN_LENGTH, passwords.MAX_LENGTH, error="Takes 8 to 128 characters."
        ),
        metadata={"example": "tres tristes tigres en un trigal", "format": "password"},
    )
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

    name = Text(1, 100, metadata={**other_name("nombre"), "example": "Ana"})
    email = Correo(metadata=other_name("correo"))


class PasswordChange(NewAccount):
    """A new password of an account whose name and address stay."""

    nombre = fields.String(required=True)
    correo = fields.String(required=True)


class LoginRequest(Aliased):
    """A login. The password is bounded only so that it can be hashed."""

    correo = Correo(required=True, metadata={"example": "ana@example.com", "format": "email"})
    password = Password(
        required=True,
        validate=validate.Length(max=256, error="Takes up to 256 characters."),
        metadata={"example": "tres tristes tigres en un trigal", "format": "password"},
    )
    email = Correo(metadata=other_name("correo"))


class AccountResponse(Response):
    id = fields.UUID(dump_only=True)
    nombre = fields.String()
    correo = fields.String()
    is_active = fields.Boolean()
    created_at = Moment()


class LoginResponse(Response):
    access_token = fields.String(metadata={"example": "eyJhbGciOiJIUzI1NiJ9.…"})
    token_type = fields.String(metadata={"example": "bearer"})
    expires_in = fields.Integer(metadata={"description": "seconds", "example": 900})
