"""Every text that a client may read, by its stable code, in Spanish and in English."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple

from flask import has_request_context, request

Language = Literal["es", "en"]
LANGUAGES: tuple[Language, ...] = ("es", "en")


class Text(NamedTuple):
    """What one problem is called, and what happened and can be done about it."""

    title: str
    detail: str


class Message(NamedTuple):
    """One problem: its HTTP status and its text in each language."""

    status: int
    es: Text
    en: Text


PROBLEMS: Mapping[str, Message] = {
    "bad_request": Message(
        400,
        Text("Petición incorrecta", "La petición no se puede entender."),
        Text("Bad request", "The request cannot be understood."),
    ),
    "not_json": Message(
        400,
        Text(
            "El cuerpo no es JSON",
            "El cuerpo debe ser JSON estricto en UTF-8: sin nombres repetidos, sin NaN, sin "
            "caracteres nulos y sin anidar demasiado.",
        ),
        Text(
            "The body is not JSON",
            "The body must be strict JSON in UTF-8: no repeated names, no NaN, no null "
            "characters, no deep nesting.",
        ),
    ),
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
            "No lo emitió este servicio, está alterado o su cuenta ya no está activa.",
        ),
        Text(
            "The access_token is not valid",
            "This service did not issue it, it was altered, or its account is no longer active.",
        ),
    ),
    "access_token_expired": Message(
        401,
        Text("El access_token caducó", "Inicia sesión de nuevo en /auth/login."),
        Text("The access_token has expired", "Log in again at /auth/login."),
    ),
    "invalid_credentials": Message(
        401,
        Text("Credenciales incorrectas", "El correo o la contraseña no son correctos."),
        Text("Wrong credentials", "The e-mail address or the password is not right."),
    ),
    "forbidden": Message(
        403,
        Text("Sin permiso", "No tienes acceso a este recurso."),
        Text("Forbidden", "You have no access to this resource."),
    ),
    "not_found": Message(
        404,
        Text("No existe", "No hay nada en esta dirección."),
        Text("Not found", "There is nothing at this address."),
    ),
    "method_not_allowed": Message(
        405,
        Text(
            "Método no permitido",
            "La cabecera Allow dice qué métodos admite esta dirección.",
        ),
        Text(
            "Method not allowed",
            "The Allow header says which methods this address takes.",
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
    "payload_too_large": Message(
        413,
        Text("El cuerpo es demasiado grande", "El cuerpo puede ocupar hasta 16 KiB."),
        Text("The body is too large", "A body may take up to 16 KiB."),
    ),
    "unsupported_media_type": Message(
        415,
        Text("Tipo de contenido no admitido", "Envía el cuerpo como application/json."),
        Text("Unsupported media type", "Send the body as application/json."),
    ),
    "validation_failed": Message(
        422,
        Text("Datos no válidos", "Corrige los campos que se nombran en errors."),
        Text("Invalid data", "Correct the fields named in errors."),
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
    "rate_limited": Message(
        429,
        Text(
            "Demasiadas peticiones",
            "Espera los segundos que indica la cabecera Retry-After y vuelve a intentarlo.",
        ),
        Text(
            "Too many requests",
            "Wait as many seconds as the Retry-After header says, then try again.",
        ),
    ),
    "internal_error": Message(
        500,
        Text(
            "Error interno",
            "Algo falló aquí. El request_id ayuda a encontrarlo en el registro.",
        ),
        Text(
            "Internal error",
            "Something failed here. The request_id helps to find it in the log.",
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
    "database_unavailable": Message(
        503,
        Text(
            "Base de datos no disponible",
            "La base de datos de cuentas no responde a tiempo.",
        ),
        Text("Database unavailable", "The database of accounts does not answer in time."),
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
            "Redis gave no answer that can be trusted, so the outcome is unknown: repeat the call "
            "with the same Idempotency-Key.",
        ),
    ),
    "not_ready": Message(
        503,
        Text("El servicio no está listo", "El campo checks nombra las partes que fallan."),
        Text("The service is not ready", "The member checks names the parts that fail."),
    ),
    "token_unknown": Message(
        404,
        Text("Token desconocido", "Este token no existe o ya no queda registro de él."),
        Text("Unknown token", "This token does not exist, or no record of it is left."),
    ),
    "token_already_used": Message(
        409,
        Text("Token ya utilizado", "Este token ya fue utilizado."),
        Text("Token already used", "This token has been used."),
    ),
    "token_not_for_caller": Message(
        403,
        Text(
            "Token para otra persona", "Este token es para otros destinatarios. No se ha gastado."
        ),
        Text("Token for someone else", "This token is for others. It was not used up."),
    ),
    "token_mismatch": Message(
        403,
        Text(
            "El token es para otra cosa",
            "El campo field dice qué es lo que no coincide. El token no se ha gastado.",
        ),
        Text(
            "The token is for something else",
            "The member field says what differs. The token was not used up.",
        ),
    ),
    "token_reserved": Message(
        409,
        Text(
            "Token reservado",
            "Alguien lo tiene reservado. Puede quedar libre tras los segundos de Retry-After.",
        ),
        Text(
            "Token reserved",
            "Someone holds a reservation of it. It may be free after Retry-After seconds.",
        ),
    ),
    "lease_ended": Message(
        409,
        Text("La reserva terminó", "La reserva venció, se devolvió o fue sustituida por otra."),
        Text("The lease has ended", "The reservation ran out, was given back or was replaced."),
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
}

#: What schemas say of a field, English to Spanish. A test holds it complete.
FIELD_ERRORS: Mapping[str, str] = {
    "Missing data for required field.": "Falta este campo obligatorio.",
    "Unknown field.": "Campo desconocido.",
    "Field may not be null.": "El campo no puede ser null.",
    "Invalid input type.": "El cuerpo debe ser un objeto JSON.",
    "Not a valid string.": "Debe ser un texto.",
    "Not a valid utf-8 string.": "Debe ser un texto en UTF-8.",
    "Not a valid integer.": "Debe ser un número entero.",
    "Number too large.": "El número es demasiado grande.",
    "Not an e-mail address.": "No es una dirección de correo.",
    "Takes 1 to 100 characters.": "Admite de 1 a 100 caracteres.",
    (
        "Takes no control characters, none that are invisible or turn the direction of "
        "writing, and up to 4 marks in a row."
    ): (
        "No admite caracteres de control, ni invisibles, ni que cambien el sentido de la "
        "escritura, ni más de 4 marcas seguidas."
    ),
    "Takes 8 to 128 characters.": "Admite de 8 a 128 caracteres.",
    "Too easy to guess: use more words, and none of your name or e-mail address.": (
        "Demasiado fácil de adivinar: usa más palabras, y ninguna de tu nombre o correo."
    ),
    "Takes up to 256 characters.": "Admite hasta 256 caracteres.",
    "Takes at least 1 second.": "Debe ser de 1 segundo como mínimo.",
    "Takes up to 4096 bytes of JSON.": "Admite hasta 4096 bytes de JSON.",
    "Takes 1 to 64 of a-z, 0-9 and ._:- only.": "De 1 a 64 caracteres, solo a-z, 0-9 y ._:-.",
    "Takes 1 to 255 characters.": "Admite de 1 a 255 caracteres.",
    "Takes 1 to 255 visible ASCII characters.": "Admite de 1 a 255 caracteres ASCII visibles.",
    "Takes 64 hexadecimal characters.": "Deben ser 64 caracteres hexadecimales.",
    "Takes 1 to 16 members.": "Admite de 1 a 16 elementos.",
    "Takes 1 to 60 seconds.": "Admite de 1 a 60 segundos.",
    "Takes 1 to 100.": "Admite de 1 a 100.",
    "Takes 1 to 20.": "Admite de 1 a 20.",
    "Not a user id or an e-mail address.": "No es un id de usuario ni una dirección de correo.",
    "Not a JSON object.": "No es un objeto JSON.",
    "Not a valid list.": "Debe ser una lista.",
    "Not a state of a token.": "No es un estado de un token.",
    "Not a cursor of this list.": "No es un cursor de esta lista.",
    "Longer than this service allows.": "Es más de lo que permite este servicio.",
    "More than max_active: an account may not have so many outstanding tokens.": (
        "Es más que max_active: una cuenta no puede tener tantos tokens sin usar."
    ),
}


TOKEN_VALID: Mapping[Language, str] = {
    "es": "Token válido: queda utilizado.",
    "en": "Valid token: it is now used up.",
}


def language() -> Language:
    """Choose by ``Accept-Language``; Spanish where it says nothing of use."""
    if not has_request_context():
        return "es"
    # The library would let a plain "es" of any weight win over the "en-GB" that is preferred.
    for wanted, weight in request.accept_languages:
        for known in LANGUAGES:
            if weight and wanted.lower().partition("-")[0] == known:
                return known
    return "es"


def problem_text(code: str, chosen: Language) -> Text:
    message = PROBLEMS[code]
    return message.en if chosen == "en" else message.es


#: Of how many fields, and of how many members of a list, the mistakes are told. Each of a long
#: list would make the answer many times as long as the body.
MOST_ERRORS = 50


def field_errors(errors: Any, chosen: Language) -> Any:
    """Translate the messages inside a tree of marshmallow errors, keeping its shape."""
    if isinstance(errors, Mapping):
        told = islice(errors.items(), MOST_ERRORS)
        return {str(field): field_errors(inner, chosen) for field, inner in told}
    if isinstance(errors, list):
        return [field_errors(inner, chosen) for inner in errors]
    return FIELD_ERRORS.get(errors, errors) if chosen == "es" else errors
