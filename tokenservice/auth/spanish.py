"""The texts of /auth in the OpenAPI document, English to Spanish."""

from __future__ import annotations

from collections.abc import Mapping

DOCUMENT: Mapping[str, str] = {
    "Accounts": "Cuentas",
    " Registration is closed: the operator of this service creates its accounts.": (
        " El registro está cerrado: las cuentas las crea quien opera este servicio."
    ),
    # Credentials
    "An **access_token**, or a service key (**osk_…**).": (
        "Un **access_token**, o una clave de servicio (**osk_…**)."
    ),
    "**username** is your *correo*. Leave client_id and client_secret empty.": (
        "**username** es tu *correo*. Deja vacíos client_id y client_secret."
    ),
    "The **id** of a service key, and the key (**osk_…**).": (
        "El **id** de una clave de servicio, y la clave (**osk_…**)."
    ),
    "Create tokens.": "Crear tokens.",
    "Consume, reserve, commit and release them.": (
        "Consumirlos, reservarlos, confirmar la reserva y soltarla."
    ),
    "Introspect, read the receipt, list.": "Consultarlos, leer el recibo, listarlos.",
    "Revoke them.": "Revocarlos.",
    # Accounts and passwords
    "Open an account": "Abrir una cuenta",
    (
        "Its *correo* is kept in its canonical spelling. Where registration is closed, the "
        "operator opens accounts."
    ): (
        "Su *correo* se guarda en su forma canónica. Donde el registro está cerrado, las cuentas "
        "las abre quien opera el servicio."
    ),
    "See the account that is calling": "Ver la cuenta que llama",
    "Not for service keys.": "No es para claves de servicio.",
    "Change one's password": "Cambiar la contraseña propia",
    "All other sessions end. Service keys stay.": (
        "Todas las demás sesiones terminan. Las claves de servicio siguen."
    ),
    "Set a password with a token of `flask users reset-token`": (
        "Poner una contraseña con un token de `flask users reset-token`"
    ),
    "The password is judged before the token is consumed. All sessions end. Service keys stay.": (
        "La contraseña se juzga antes de consumir el token. Todas las sesiones terminan. Las "
        "claves de servicio siguen."
    ),
    "Erase one's account for good": "Borrar la cuenta propia para siempre",
    (
        "Its name and address go, its sessions and keys end, and its unused tokens are revoked. "
        "Its id stays: it stands in receipts and in the log."
    ): (
        "Pierde el nombre y la dirección, sus sesiones y claves terminan, y sus tokens sin usar "
        "quedan revocados. Su id queda: está en los recibos y en el registro."
    ),
    "another name of nombre; never both": "otro nombre de nombre; nunca los dos",
    "another name of correo; never both": "otro nombre de correo; nunca los dos",
    # Sessions
    "Log in with JSON, or with the OAuth 2 password form": (
        "Iniciar sesión con JSON, o con el formulario de contraseña de OAuth 2"
    ),
    "While Postgres is read-only there is no refresh_token.": (
        "Mientras Postgres sea de solo lectura no hay refresh_token."
    ),
    "Exchange a refresh token for its successor, and a new JWT": (
        "Cambiar un refresh token por su sucesor, y por un JWT nuevo"
    ),
    (
        "Repeated within a minute it returns the same successor, as long as nobody has presented "
        "that. Later, the whole session ends."
    ): (
        "Repetida antes de un minuto devuelve el mismo sucesor, mientras nadie lo haya "
        "presentado. Más tarde, termina toda la sesión."
    ),
    "End the session of this JWT": "Terminar la sesión de este JWT",
    "A JWT without a session, of a login while Postgres was read-only, stays valid until it "
    "expires.": (
        "Un JWT sin sesión, el de un login con Postgres de solo lectura, vale hasta que caduca."
    ),
    "End all sessions of the account": "Terminar todas las sesiones de la cuenta",
    "Their JWTs are refused within two seconds, the one of this call included.": (
        "Sus JWT se rechazan en dos segundos, también el de esta llamada."
    ),
    "List the open sessions of the account, newest first": (
        "Listar las sesiones abiertas de la cuenta, primero las más nuevas"
    ),
    "With the program and the address of the login of each.": (
        "Con el programa y la dirección del login de cada una."
    ),
    "End a session of the account, now or before": (
        "Terminar una sesión de la cuenta, ahora o antes"
    ),
    "Its JWTs are refused within two seconds.": "Sus JWT se rechazan en dos segundos.",
    "for `/auth/refresh`; absent while Postgres is read-only": (
        "para `/auth/refresh`; no está mientras Postgres sea de solo lectura"
    ),
    "seconds": "segundos",
    "the last refresh": "la última renovación",
    "the session of this call": "la sesión de esta llamada",
    # Service keys
    "Make a service key, for a program": "Crear una clave de servicio, para un programa",
    "The response shows it once. Of the key only a hash is kept.": (
        "La respuesta la muestra una sola vez. De la clave solo se guarda un hash."
    ),
    "List one's own keys that can be used, oldest first, without their secrets": (
        "Listar las claves propias que se pueden usar, primero las más antiguas, sin sus secretos"
    ),
    "Revoked and expired ones are not among them.": "Sin las revocadas ni las caducadas.",
    "Revoke a key of one's own": "Revocar una clave propia",
    "Every worker refuses it within two seconds, and its JWTs too. A repeat is 204 as well.": (
        "Todos los procesos la rechazan en dos segundos, y también sus JWT. Repetir da también 204."
    ),
    "public; safe in logs and URLs": "público; puede ir en registros y direcciones",
    "the only ones that it may create and consume": "los únicos que puede crear y consumir",
    "the only networks that it may come from": "las únicas redes desde las que puede venir",
    "life in seconds; without it, until it is revoked": (
        "vida en segundos; sin él, hasta que se revoque"
    ),
    "any, where it is empty": "cualquiera, si está vacío",
    "its limits stand in place of the account's": (
        "sus límites están en lugar de los de la cuenta"
    ),
    "shown once": "se muestra una sola vez",
    # Standard clients
    "Get a JWT for a service key (RFC 6749 section 4.4)": (
        "Obtener un JWT para una clave de servicio (RFC 6749, sección 4.4)"
    ),
    (
        "With HTTP Basic, the key's id and the key; or with the key as client_secret. Calls of "
        "such a JWT are calls of the key."
    ): (
        "Con HTTP Basic, el id de la clave y la clave; o con la clave como client_secret. Las "
        "llamadas con ese JWT son llamadas de la clave."
    ),
    "Revoke a service key, or end a session, by the text of its key or refresh token (RFC 7009)": (
        "Revocar una clave de servicio, o terminar una sesión, por el texto de su clave o su "
        "refresh token (RFC 7009)"
    ),
    (
        "The text alone is enough; credentials of a client, where they are sent, must be right. "
        "What is unknown is 200 too. A JWT is not revoked: it ends with its key or session."
    ): (
        "Basta el texto; las credenciales de un cliente, si se envían, tienen que ser correctas. "
        "Lo desconocido da también 200. Un JWT no se revoca: termina con su clave o su sesión."
    ),
}
