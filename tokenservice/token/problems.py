"""The problems of /token: the errors of the engine as responses."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flask import Flask

from tokenservice.onetime.errors import (
    OneTimeError,
    OwnerDisabled,
    StoreUnavailable,
    TokenAlreadyUsed,
)
from tokenservice.telemetry import logs, metrics
from tokenservice.telemetry.calls import call
from tokenservice.token import spanish
from tokenservice.web.problems import RETRY_SOON, Problem, explain
from tokenservice.web.texts import Message, Text, register

#: The refusals of any call that presents a token.
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
#: The refusals of a call that consumes or reserves a token.
PRESENTATION_REFUSALS = (*REFUSALS, "token_mismatch", "idempotency_mismatch")
#: What differs from the token in a token_mismatch; or its data do not fit (the gate).
FIELDS = ["purpose", "subject", "bind", "issued_by", "data"]

PROBLEMS: Mapping[str, Message] = {
    "ticket_missing": Message(
        401,
        Text("Falta el ticket", "La petición llegó a la puerta sin un token de un solo uso."),
        Text("The ticket is missing", "The request came to the gate without a one-time token."),
    ),
    "token_malformed": Message(
        422,
        Text(
            "Token mal formado",
            "Ese texto no es un token ni una reserva: revisa que esté completo.",
        ),
        Text(
            "Malformed token",
            "This text is neither a token nor a reservation: check that it is whole.",
        ),
    ),
    "token_unknown": Message(
        404,
        Text("Token desconocido", "Este token no existe o ya no queda registro de él."),
        Text("Unknown token", "This token does not exist, or no record of it is left."),
    ),
    "token_not_for_caller": Message(
        403,
        Text(
            "Token para otra cuenta", "Este token es para otros destinatarios. No se ha consumido."
        ),
        Text("Token for another account", "This token has another audience. It was not consumed."),
    ),
    "token_mismatch": Message(
        403,
        Text(
            "El token es para otra cosa",
            "El campo field nombra la diferencia. El token no se ha consumido.",
        ),
        Text(
            "The token is for something else",
            "The member field names the difference. The token was not consumed.",
        ),
        {"field": {"type": "string", "enum": FIELDS}},
    ),
    "token_already_used": Message(
        409,
        Text("Token ya utilizado", "Este token ya fue utilizado."),
        Text("Token already used", "This token has been used."),
        {"consumed_at": {"type": "string", "format": "date-time"}},
    ),
    "token_reserved": Message(
        409,
        Text(
            "Token reservado",
            "Otra reserva lo retiene. Puede quedar libre tras los segundos de Retry-After.",
        ),
        Text(
            "Token reserved",
            "Another reservation holds it. It may be free after Retry-After seconds.",
        ),
    ),
    "token_expired": Message(
        410,
        Text("Token caducado", "La vida de este token terminó. Hace falta otro."),
        Text("Token expired", "The life of this token is over. A new one is needed."),
    ),
    "token_revoked": Message(
        410,
        Text("Token revocado", "Este token fue revocado antes de usarse. Hace falta otro."),
        Text("Token revoked", "This token was revoked before it was used. A new one is needed."),
    ),
    "token_lost": Message(
        410,
        Text(
            "Token perdido",
            "El almacén se reinició, cambió de maestro o de nodo después de crearlo y ya no se "
            "puede probar que se use una sola vez. Hace falta otro.",
        ),
        Text(
            "Token lost",
            "The store restarted, failed over or moved after it was created, so single use can no "
            "longer be proven. A new one is needed.",
        ),
    ),
    "lease_ended": Message(
        409,
        Text("La reserva terminó", "La reserva venció, se liberó o fue sustituida por otra."),
        Text("The lease has ended", "The reservation is overdue, was released or was replaced."),
    ),
    "idempotency_mismatch": Message(
        422,
        Text(
            "La clave de idempotencia es de otra petición",
            "Esta Idempotency-Key se usó hace poco para otra petición. Usa una nueva.",
        ),
        Text(
            "The idempotency key is of another request",
            "This Idempotency-Key was used recently for a different request. Use a new one.",
        ),
    ),
    "too_many_active": Message(
        429,
        Text(
            "Demasiados tokens pendientes",
            "Superarías el número de tokens sin usar que se te permite. Usa o revoca alguno, o "
            "espera.",
        ),
        Text(
            "Too many outstanding tokens",
            "This would be more unused tokens than you may have. Use or revoke some, or wait.",
        ),
    ),
    "too_many_cuts": Message(
        429,
        Text(
            "Demasiadas revocaciones parciales",
            "Ya hay mil propósitos y sujetos revocados por separado. Revoca todos los tokens, o "
            "espera.",
        ),
        Text(
            "Too many partial revocations",
            "A thousand purposes and subjects are revoked one by one already. Revoke all tokens, "
            "or wait.",
        ),
    ),
    "store_unavailable": Message(
        503,
        Text(
            "Almacén de tokens no disponible",
            "Redis no dio una respuesta fiable y el resultado no se conoce: repite la llamada con "
            "la misma Idempotency-Key.",
        ),
        Text(
            "Token store unavailable",
            "Redis gave no trustworthy reply, so the outcome is unknown: repeat the call "
            "with the same Idempotency-Key.",
        ),
    ),
}

FIELD_ERRORS: Mapping[str, str] = {
    "Takes at least 1 second.": "Debe ser de 1 segundo como mínimo.",
    "Takes up to 4096 bytes of JSON.": "Admite hasta 4096 bytes de JSON.",
    "Takes 1 to 64 of a-z, 0-9 and ._:- only.": "De 1 a 64 caracteres, solo a-z, 0-9 y ._:-.",
    "Reserved for the service itself.": "Reservado al propio servicio.",
    "Takes 1 to 255 characters.": "Admite de 1 a 255 caracteres.",
    "Takes 64 hexadecimal characters.": "Deben ser 64 caracteres hexadecimales.",
    "Takes 1 to 16 members.": "Admite de 1 a 16 elementos.",
    "Takes 1 to 60 seconds.": "Admite de 1 a 60 segundos.",
    "Takes 1 to 300 seconds.": "Admite de 1 a 300 segundos.",
    "Takes 1 to 100.": "Admite de 1 a 100.",
    "Takes 1 to 20.": "Admite de 1 a 20.",
    "Not a user id or an e-mail address.": "No es un id de usuario ni una dirección de correo.",
    "No account has this address, and allow_unregistered is not true.": (
        "Ninguna cuenta tiene esta dirección, y allow_unregistered no es true."
    ),
    "Takes true or false.": "Debe ser true o false.",
    "Takes a purpose or a subject, and not both.": "Admite un purpose o un subject, no ambos.",
    "Not a state of a token.": "No es un estado de un token.",
    "Not a cursor of this list.": "No es un cursor de esta lista.",
    "Longer than this service allows.": "Es más de lo que permite este servicio.",
    "More than max_active: an account may not have so many outstanding tokens.": (
        "Es más que max_active: una cuenta no puede tener tantos tokens sin usar."
    ),
}


def of_onetime(error: OneTimeError) -> Problem:
    if isinstance(error, StoreUnavailable):
        logs.note("store.unavailable", why=str(error))
        return Problem(error.code, headers=RETRY_SOON)
    metrics.labelled(metrics.REFUSED, error.code).inc()
    field = getattr(error, "field", None)
    logs.note("token.refused", token_id=getattr(error, "token_id", None), field=field)
    # Elsewhere, as in a revoke, a used token is a mistake and no sign of a stolen one.
    if isinstance(error, TokenAlreadyUsed) and call().is_consuming:
        logs.note("token.replayed")
    headers = {}
    if error.seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.seconds)))
    return Problem(error.code, headers=headers, **error.facts)


def init_app(app: Flask) -> None:
    register(app, PROBLEMS, FIELD_ERRORS, spanish.DOCUMENT)
    explain(app, OneTimeError, of_onetime)
    # As on a worker that knows it: this one remembers the account as it was.
    explain(app, OwnerDisabled, lambda _: Problem("access_token_invalid"))
