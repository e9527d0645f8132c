"""The texts of every domain in the OpenAPI document, English to Spanish."""

from __future__ import annotations

from collections.abc import Mapping

DOCUMENT: Mapping[str, str] = {
    (
        "Short-lived tokens, each of them honoured at most once: create one, hand it over, and "
        "consume it. Log in with *Authorize* to try it here."
    ): (
        "Tokens de vida corta, y cada uno se acepta como mucho una vez: créalo, entrégalo y "
        "consúmelo. Para probarlo aquí, inicia sesión con *Autorizar*."
    ),
    "The operator of ": "Quien opera ",
    "Start here: register, log in, create a token and consume it": (
        "Empieza aquí: regístrate, inicia sesión, crea un token y consúmelo"
    ),
    # Statuses
    "OK": "Correcto",
    "Created": "Creado",
    "No Content": "Sin contenido",
    "Bad Request": "Petición incorrecta",
    "Unauthorized": "Sin autorización",
    # Headers
    "Repeat a call after a lost response with the same key, and get that response.": (
        "Tras una respuesta perdida, repite la llamada con la misma clave y recibirás esa "
        "respuesta."
    ),
    "The id of the request, also in the log. A client may choose it.": (
        "El id de la petición, también en el registro. El cliente puede elegirlo."
    ),
    "The receipt of what the call created, relative to the path of the call.": (
        "El recibo de lo que creó la llamada, relativo a la ruta de la llamada."
    ),
    (
        "The limit that counts the call, the calls that are left (r), and the seconds until there "
        "are more (t); draft-ietf-httpapi-ratelimit-headers-11."
    ): (
        "El límite que cuenta la llamada, las llamadas que quedan (r) y los segundos hasta que "
        "haya más (t); draft-ietf-httpapi-ratelimit-headers-11."
    ),
    "That limit: its calls (q) in so many seconds (w).": (
        "Ese límite: sus llamadas (q) en tantos segundos (w)."
    ),
    "The seconds after which a repeat makes sense.": (
        "Los segundos tras los que tiene sentido repetir."
    ),
    "The kind of credentials that the call takes (RFC 6750 section 3).": (
        "El tipo de credenciales que admite la llamada (RFC 6750, sección 3)."
    ),
    "The code of the problem, for a proxy that reads no body.": (
        "El código del problema, para un proxy que no lee cuerpos."
    ),
    "The language of the texts.": "El idioma de los textos.",
    # Fields
    "by default": "por defecto",
    "of": "de",
    "of `validation_failed`: the mistakes, by field": (
        "de `validation_failed`: los errores, por campo"
    ),
    "stable; clients switch on it": "estable; los clientes se guían por él",
}
