"""The texts of /token in the OpenAPI document, English to Spanish."""

from __future__ import annotations

from collections.abc import Mapping

from tokenservice.token import sandbox

DOCUMENT: Mapping[str, str] = {
    "One-time tokens": "Tokens de un solo uso",
    "Reservations of tokens": "Reservas de tokens",
    "The gate of a proxy": "La puerta de un proxy",
    sandbox.DESCRIPTION: (
        "\n\nEste servicio es un sandbox, como dice `X-Sandbox` en cada respuesta: acepta los "
        f"tokens fijos {', '.join(f'`{text}`' for text in sandbox.TOKENS)}, cada uno siempre en el "
        "estado de su nombre."
    ),
    # Creation
    "Create a token that can be used once": "Crear un token que se puede usar una vez",
    (
        "The response is the only place that shows it. Hand it to its presenter, and name the "
        "purpose and the audience, so that nobody else can consume it for anything else."
    ): (
        "Solo lo muestra la respuesta. Entrégalo a su portador, y nombra el propósito y los "
        "destinatarios, para que nadie más pueda consumirlo para otra cosa."
    ),
    "Create up to 100 tokens, all or none": "Crear hasta 100 tokens, todos o ninguno",
    "They share their terms, and each can be used once.": (
        "Comparten sus condiciones, y cada uno se puede usar una vez."
    ),
    "life in seconds": "vida en segundos",
    "the only accounts that may consume it": "las únicas cuentas que pueden consumirlo",
    (
        "its audience may name an address without an account, for the account that registers it "
        "first"
    ): ("audience puede nombrar un correo sin cuenta, para la cuenta que lo registre primero"),
    "the party it speaks for": "la persona o cosa por la que habla",
    "its consumer must name the subject, or is refused": (
        "para consumirlo hay que nombrar el subject; si no, se rechaza"
    ),
    "handed to its consumer": "se entrega a la cuenta que lo consume",
    "SHA-256 of the approved action": "SHA-256 de la acción aprobada",
    "seconds left; 0 where it is neither active nor reserved": (
        "segundos que quedan; 0 si no está activo ni reservado"
    ),
    "ids; addresses only where they had no account": "ids; correos solo si no tenían cuenta",
    "an earlier call created it": "lo creó una llamada anterior",
    # Use
    "Consume a token": "Consumir un token",
    "Of any number of callers at once, exactly one gets this response.": (
        "De cuantas llamadas lleguen a la vez, exactamente una recibe esta respuesta."
    ),
    "Consume a token: the same call as /token/consume": (
        "Consumir un token: la misma llamada que /token/consume"
    ),
    "A repeat with the same Idempotency-Key may take either path. This one stays for good.": (
        "Una repetición con la misma Idempotency-Key puede ir por cualquiera de las dos rutas. "
        "Esta se queda para siempre."
    ),
    "the only accounts whose tokens are accepted; always name them": (
        "las únicas cuentas cuyos tokens se aceptan; nómbralas siempre"
    ),
    "the creator's key": "la clave de quien lo creó",
    "the caller's key": "la clave de quien llama",
    "the response to an earlier call": "la respuesta a una llamada anterior",
    "Look at a token without consuming it": "Mirar un token sin consumirlo",
    (
        "A token that is not alive, not for the caller or of another issuer is just not active "
        "(RFC 7662 section 2.2)."
    ): (
        "Un token que no está vivo, no es para la cuenta que llama o es de otro emisor está sin "
        "más inactivo (RFC 7662, sección 2.2)."
    ),
    "seconds left": "segundos que quedan",
    "it approves one action only": "aprueba una sola acción",
    # Receipts
    "Read the receipt of a token": "Leer el recibo de un token",
    "For its creator and its audience, also for a while after it was consumed.": (
        "Para su creador y sus destinatarios, también un tiempo después de consumirse."
    ),
    "List one's own tokens, newest first, without their secrets": (
        "Listar los tokens propios, primero los más nuevos, sin sus secretos"
    ),
    "With a filter a page may hold fewer than ``limit``: go on until ``next_cursor`` is null.": (
        "Con un filtro, una página puede traer menos de ``limit``: sigue hasta que "
        "``next_cursor`` sea null."
    ),
    "the consumer's key": "la clave de quien lo consumió",
    "how often it was presented again": "cuántas veces más se presentó",
    "null at the end": "null al final",
    # Revocation
    "Revoke a token of one's own by its id": "Revocar un token propio por su id",
    "For its creator. A repeat is 204 as well.": "Para su creador. Repetir da también 204.",
    "Revoke a token by its text": "Revocar un token por su texto",
    "For its creator and its audience. A repeat is 204 as well.": (
        "Para su creador y sus destinatarios. Repetir da también 204."
    ),
    "Revoke all tokens of one's own that are unused": "Revocar todos los tokens propios sin usar",
    (
        "With a purpose or a subject, only those that have it. Tokens that are created later are "
        "good."
    ): "Con un propósito o un sujeto, solo los que lo tengan. Los que se creen después valen.",
    # Reservations
    "Hold a token while the action that it allows is carried out": (
        "Reservar un token mientras se hace la acción que permite"
    ),
    (
        "Commit the reservation after the action, or release it if the action failed. The lease "
        "ends by itself, and the token can then be used while its life remains."
    ): (
        "Confirma la reserva después de la acción, o suéltala si la acción falló. La reserva "
        "vence por sí sola, y entonces el token se puede usar mientras le quede vida."
    ),
    "how long it is held": "cuánto tiempo queda reservado",
    "Consume the token that a reservation holds": "Consumir el token que tiene una reserva",
    "A repeat with the same Idempotency-Key gets the same response.": (
        "Una repetición con la misma Idempotency-Key recibe la misma respuesta."
    ),
    "Release the token that a reservation holds": "Soltar el token que tiene una reserva",
    "It can then be used again, while its life remains.": (
        "Entonces se puede usar otra vez, mientras le quede vida."
    ),
    # The gate
    "Tell a proxy whether a request may pass, and consume its ticket": (
        "Decir a un proxy si una petición puede pasar, y consumir su ticket"
    ),
    (
        "The ticket is in ``X-One-Time-Token``, in ``Sec-WebSocket-Protocol`` behind ``ott``, or "
        "in the parameter ``ticket`` of the address in ``X-Original-URI`` or "
        "``X-Forwarded-Uri``. A 403 is about the ticket, and ``X-Token-Code`` says why. With "
        "``pass_seconds`` the 204 sets a cookie, with which the browser passes again without a "
        "second consume."
    ): (
        "El ticket está en ``X-One-Time-Token``, en ``Sec-WebSocket-Protocol`` tras ``ott``, o "
        "en el parámetro ``ticket`` de la dirección en ``X-Original-URI`` o "
        "``X-Forwarded-Uri``. Un 403 es por el ticket, y ``X-Token-Code`` dice por qué. Con "
        "``pass_seconds`` el 204 pone una cookie, con la que el navegador vuelve a pasar sin "
        "consumir otra vez."
    ),
    "how long the browser passes again, by a cookie": (
        "cuánto tiempo vuelve a pasar el navegador, por una cookie"
    ),
    "X-Token-Data is wanted; data over 1,536 bytes are refused": (
        "se quiere X-Token-Data; más de 1536 bytes de data se rechazan"
    ),
    "its id": "su id",
    "the party that it speaks for, percent-encoded": (
        "la persona o cosa por la que habla, codificada con %"
    ),
    "the id of its issuer": "el id de su emisor",
    "its purpose": "su propósito",
    "with data=1, its data: JSON in base64url": "con data=1, sus data: JSON en base64url",
}
