"""The texts of responses by stable code, in Spanish and English, and the choice of the language.

The general problems stand here; each domain registers its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from flask import Flask, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from tokenservice.extensions import add, config, part
from tokenservice.telemetry.calls import current
from tokenservice.web import spanish

Language = Literal["es", "en"]
LANGUAGES: tuple[Language, ...] = ("es", "en")

#: The end of a line, but not of a paragraph.
BREAK = re.compile(r"(?<!\n)\n(?!\n)")
#: The most fields, and the most members of a list, whose errors a response names. The errors of a
#: long list would make the response many times as long as the body.
MOST_ERRORS = 50


class Text(NamedTuple):
    """A problem's title, and its detail: what happened, and the remedy."""

    title: str
    detail: str


class Message(NamedTuple):
    """A problem: its HTTP status and its text in each language.

    :param members: the JSON schema of each member of its own, by name (RFC 9457 section 3.2)
    """

    status: int
    es: Text
    en: Text
    members: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def text(self, language: Language) -> Text:
        return self.en if language == "en" else self.es


class Catalogue:
    """All registered texts of an app.

    :ivar problems: the message of each code
    :ivar fields: the errors of schemas, English to Spanish
    :ivar document: the texts of the OpenAPI document, English to Spanish
    """

    def __init__(self) -> None:
        self.problems: dict[str, Message] = {}
        self.fields: dict[str, str] = {}
        self.document: dict[str, str] = {}


catalogue = part(Catalogue)


def language() -> Language:
    """The language that the current call prefers, or else that of the service."""
    call = current.get()
    accepted = call.given.get("HTTP_ACCEPT_LANGUAGE", "") if call else ""
    return preferred(accepted) or config.language


@functools.lru_cache(64)
def preferred(accepted: str) -> Language | None:
    """Choose by ``Accept-Language``; None where it names neither language."""
    # The library would prefer a plain "es" of any weight to the "en-GB" that ranks first.
    for wanted, weight in parse_accept_header(accepted, LanguageAccept):
        for known in LANGUAGES:
            if weight and wanted.lower().partition("-")[0] == known:
                return known
    return None


def linked() -> Language | None:
    """The language of the link that was followed to a page, if it named one."""
    wanted = request.args.get("lang")
    return next((known for known in LANGUAGES if known == wanted), None)


def of_page() -> Language:
    """The language of a page: that of the link, or else the one that the reader prefers."""
    return linked() or language()


def spoken(chosen: Language) -> list[tuple[str, str]]:
    """The header fields of a response with text in that language."""
    return [("Content-Language", chosen), ("Vary", "Accept-Language")]


def field_errors(errors: Any, chosen: Language) -> Any:
    """Translate the messages inside a tree of marshmallow errors, keeping its shape."""
    if isinstance(errors, Mapping):
        named = islice(errors.items(), MOST_ERRORS)
        return {str(field): field_errors(inner, chosen) for field, inner in named}
    if isinstance(errors, list):
        return [field_errors(inner, chosen) for inner in errors]
    return catalogue.fields.get(errors, errors) if chosen == "es" else errors


def described(part: Any, chosen: Language) -> Any:
    """Copy a part of the OpenAPI document, and translate the texts in it.

    A text from a docstring breaks its lines where that does.
    """
    if isinstance(part, Mapping):
        return {name: described(inner, chosen) for name, inner in part.items()}
    if isinstance(part, list):
        return [described(inner, chosen) for inner in part]
    if isinstance(part, str) and chosen == "es":
        return catalogue.document.get(BREAK.sub(" ", part), part)
    return part


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
            "El cuerpo debe ser JSON estricto en UTF-8: sin marca de orden de bytes (BOM), sin "
            "nombres repetidos, sin NaN, sin caracteres nulos y sin anidar demasiado.",
        ),
        Text(
            "The body is not JSON",
            "The body must be strict JSON in UTF-8: no byte order mark (BOM), no repeated names, "
            "no NaN, no null characters, no deep nesting.",
        ),
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
        {"max_active": {"type": "integer"}},
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
    "database_unavailable": Message(
        503,
        Text(
            "Base de datos no disponible",
            "La base de datos de cuentas no responde a tiempo.",
        ),
        Text("Database unavailable", "The account database does not respond in time."),
    ),
    "not_ready": Message(
        503,
        Text("El servicio no está listo", "El campo checks nombra las partes que fallan."),
        Text("The service is not ready", "The member checks names the parts that fail."),
        {"checks": {"type": "object", "additionalProperties": {"type": "string"}}},
    ),
}

FIELD_ERRORS: Mapping[str, str] = {
    "Missing data for required field.": "Falta este campo obligatorio.",
    "Unknown field.": "Campo desconocido.",
    "Field may not be null.": "El campo no puede ser null.",
    "Another name of a field that is given too.": "Es otro nombre de un campo que también se da.",
    "Invalid input type.": "El cuerpo debe ser un objeto JSON.",
    "Not a valid string.": "Debe ser un texto.",
    "Not a valid utf-8 string.": "Debe ser un texto en UTF-8.",
    "Not a valid integer.": "Debe ser un número entero.",
    "Not a valid boolean.": "Debe ser true o false.",
    "Number too large.": "El número es demasiado grande.",
    (
        "Takes no control characters, none that are invisible or turn the direction of "
        "writing, and up to 4 marks in a row."
    ): (
        "No admite caracteres de control, ni invisibles, ni que cambien el sentido de la "
        "escritura, ni más de 4 marcas seguidas."
    ),
    "Takes 1 to 255 visible ASCII characters.": "Admite de 1 a 255 caracteres ASCII visibles.",
    "Not a JSON object.": "No es un objeto JSON.",
    "Not a valid list.": "Debe ser una lista.",
}


def register(
    app: Flask,
    problems: Mapping[str, Message],
    fields: Mapping[str, str],
    document: Mapping[str, str],
) -> None:
    """Add the texts of a domain to those of ``app``."""
    catalogue: Catalogue = app.extensions[Catalogue.__name__]
    catalogue.problems.update(problems)
    catalogue.fields.update(fields)
    catalogue.document.update(document)


def init_app(app: Flask) -> None:
    add(app, Catalogue())
    register(app, PROBLEMS, FIELD_ERRORS, spanish.DOCUMENT)
