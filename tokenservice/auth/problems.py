"""The problems of /auth, and of a caller without valid credentials."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask

from tokenservice.auth import spanish
from tokenservice.auth.passwords import TooManyWaiting
from tokenservice.auth.sessions import PasswordChanged
from tokenservice.web.problems import RETRY_SOON, Problem, explain
from tokenservice.web.texts import Message, Text, register

#: The refusals of every view that needs a caller.
CALLER_REFUSALS = (
    "not_authenticated",
    "access_token_invalid",
    "access_token_expired",
    "key_invalid",
    "insufficient_scope",
    "database_unavailable",
)

PROBLEMS: Mapping[str, Message] = {
    "not_authenticated": Message(
        401,
        Text(
            "Falta la autenticación",
            "Envía la cabecera Authorization: Bearer con el access_token que da /auth/login.",
        ),
        Text(
            "Authentication is missing",
            "Send the header Authorization: Bearer with the access_token from /auth/login.",
        ),
    ),
    "access_token_invalid": Message(
        401,
        Text(
            "El access_token no es válido",
            "No lo emitió este servicio, está alterado, su cuenta ya no está activa o su sesión "
            "ha terminado.",
        ),
        Text(
            "The access_token is not valid",
            "This service did not issue it, it was altered, its account is no longer active, or "
            "its session has ended.",
        ),
    ),
    "access_token_expired": Message(
        401,
        Text("El access_token caducó", "Inicia sesión de nuevo en /auth/login."),
        Text("The access_token has expired", "Log in again at /auth/login."),
    ),
    "key_invalid": Message(
        401,
        Text(
            "La clave no es válida",
            "No existe, fue revocada, caducó, no admite esta red o su cuenta ya no está activa.",
        ),
        Text(
            "The key is not valid",
            "It does not exist, was revoked, has expired, is not for this network, or its account "
            "is no longer active.",
        ),
    ),
    "insufficient_scope": Message(
        403,
        Text(
            "La clave no tiene ese permiso",
            "WWW-Authenticate nombra el permiso (scope) que falta. Sin nombre, es una llamada para "
            "personas, con el access_token de /auth/login.",
        ),
        Text(
            "The key lacks this scope",
            "WWW-Authenticate names the scope that is missing. Where it names none, the call is "
            "for people, with the access_token from /auth/login.",
        ),
    ),
    "purpose_not_allowed": Message(
        403,
        Text(
            "La clave no admite este propósito",
            "El campo purpose tiene que ser uno de los que la clave admite. No se ha consumido "
            "ningún token.",
        ),
        Text(
            "The key does not allow this purpose",
            "The field purpose must be one that the key allows. No token was consumed.",
        ),
    ),
    "too_many_keys": Message(
        409,
        Text("Demasiadas claves", "Una cuenta puede tener 100 claves. Revoca alguna."),
        Text("Too many keys", "An account may have 100 keys. Revoke one of them."),
    ),
    "session_ended": Message(
        401,
        Text(
            "La sesión ha terminado",
            "Este refresh_token no es de una sesión abierta. Inicia sesión de nuevo en "
            "/auth/login.",
        ),
        Text(
            "The session has ended",
            "This refresh_token is not of an open session. Log in again at /auth/login.",
        ),
    ),
    "invalid_credentials": Message(
        401,
        Text("Credenciales incorrectas", "El correo o la contraseña no son correctos."),
        Text("Wrong credentials", "The e-mail address or the password is not right."),
    ),
    "registration_closed": Message(
        403,
        Text(
            "El registro está cerrado",
            "Aquí las cuentas las crea quien opera el servicio. Pídele una.",
        ),
        Text(
            "Registration is closed",
            "The operator of this service creates its accounts. Ask for one.",
        ),
    ),
    "email_taken": Message(
        409,
        Text("El correo ya está registrado", "Ya existe una cuenta con ese correo."),
        Text(
            "The e-mail address is taken",
            "There is an account with this e-mail address.",
        ),
    ),
    "busy": Message(
        503,
        Text(
            "Servicio ocupado",
            "Hay demasiadas peticiones en espera. Inténtalo de nuevo en unos instantes.",
        ),
        Text("Service busy", "Too many requests are waiting. Try again shortly."),
    ),
}

FIELD_ERRORS: Mapping[str, str] = {
    "Not an e-mail address.": "No es una dirección de correo.",
    "Takes 1 to 100 characters.": "Admite de 1 a 100 caracteres.",
    "Takes 8 to 128 characters.": "Admite de 8 a 128 caracteres.",
    "Too easy to guess: use more words, and none of your name or e-mail address.": (
        "Demasiado fácil de adivinar: usa más palabras, y ninguna de tu nombre o correo."
    ),
    "Takes up to 256 characters.": "Admite hasta 256 caracteres.",
    "Invalid type.": "El tipo no es válido.",
    "Not a scope.": "No es un permiso (scope).",
    "Takes 1 to 4 scopes.": "Admite de 1 a 4 permisos (scopes).",
    "Takes a purpose, or its beginning and a *.": "Admite un propósito, o su comienzo y un *.",
    "Takes 1 second to 10 years.": "Admite de 1 segundo a 10 años.",
    "Not a network such as 192.0.2.0/24.": "No es una red como 192.0.2.0/24.",
    'Takes a rate such as "60 per minute".': 'Admite un ritmo como "60 per minute".',
}


def on_too_many_waiting(error: TooManyWaiting) -> Problem:
    return Problem("busy", headers={"Retry-After": str(error.retry_after)})


def on_password_changed(_: PasswordChanged) -> Problem:
    return Problem("busy", headers=RETRY_SOON)


def init_app(app: Flask) -> None:
    register(app, PROBLEMS, FIELD_ERRORS, spanish.DOCUMENT)
    explain(app, TooManyWaiting, on_too_many_waiting)
    explain(app, PasswordChanged, on_password_changed)
