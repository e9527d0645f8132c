"""What the page of each problem says beside its text: a remedy, and what became of the token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from tokenservice.web.texts import Language

Fate = Literal["kept", "before", "over", "unknown"]


class Advice(NamedTuple):
    """A remedy in each language, and the fate of a token that the call presented."""

    es: str
    en: str
    fate: Fate = "kept"

    def text(self, language: Language) -> str:
        return self.en if language == "en" else self.es


#: By fate, whether the call consumed the token.
FATES: Mapping[Fate, Mapping[Language, str]] = {
    "kept": {
        "es": "No. Si la llamada presentaba un token, sigue como estaba.",
        "en": "No. If the call presented a token, that is as it was.",
    },
    "before": {
        "es": "No: ya lo había consumido una llamada anterior.",
        "en": "No: an earlier call had consumed it before.",
    },
    "over": {
        "es": "No, y ya nadie puede consumirlo.",
        "en": "No, and nobody can consume it any more.",
    },
    "unknown": {
        "es": "No se sabe. Repite con la misma Idempotency-Key: nunca se consume dos veces.",
        "en": "Unknown. Repeat with the same Idempotency-Key: it is never consumed twice.",
    },
}

SAME_KEY = (
    "Repite la llamada con la misma Idempotency-Key, tras los segundos de Retry-After.",
    "Repeat the call with the same Idempotency-Key, after the seconds of Retry-After.",
)
ANOTHER = (
    "Pide otro token a quien lo emitió. Repetir la llamada no sirve.",
    "Ask the issuer for another token. To repeat the call does not help.",
)
LOG_IN = (
    "Renueva la sesión en /auth/refresh, o inicia sesión en /auth/login.",
    "Refresh the session at /auth/refresh, or log in at /auth/login.",
)

ADVICE: Mapping[str, Advice] = {
    "token_already_used": Advice(
        "Si una llamada tuya perdió su respuesta, repítela con su misma Idempotency-Key. Si no, "
        "rechaza a quien lo presenta: consumed_at dice cuándo se usó.",
        "If a call of yours lost its response, repeat it with its own Idempotency-Key. Otherwise "
        "refuse the presenter: consumed_at says when it was used.",
        "before",
    ),
    "token_reserved": Advice(*SAME_KEY),
    "lease_ended": Advice(
        "Reserva el token otra vez mientras le quede vida, y con más lease_seconds si la acción "
        "tarda.",
        "Reserve the token again while its life remains, with more lease_seconds if the action "
        "takes long.",
    ),
    "token_expired": Advice(*ANOTHER, "over"),
    "token_revoked": Advice(*ANOTHER, "over"),
    "token_lost": Advice(*ANOTHER, "over"),
    "token_unknown": Advice(
        "Comprueba que el token sea de este servicio y llegue entero. Con el tiempo se olvidan "
        "también los recibos.",
        "Check that the token is of this service, and arrives whole. In time receipts are "
        "forgotten too.",
    ),
    "ticket_missing": Advice(
        "Pon el token en X-One-Time-Token, en Sec-WebSocket-Protocol tras ott, o en ?ticket= de la "
        "dirección.",
        "Put the token into X-One-Time-Token, into Sec-WebSocket-Protocol behind ott, or into "
        "?ticket= of the address.",
    ),
    "token_malformed": Advice(
        "Copia el texto entero, con ott_ u otr_ al principio, sin espacios ni comillas.",
        "Copy the whole text, with ott_ or otr_ at its beginning, without blanks or quotes.",
    ),
    "token_mismatch": Advice(
        "Compara el campo que nombra field con el que puso el emisor. Si no coincide, el token es "
        "para otra cosa: no lo aceptes. Si nombra data, los datos no caben en una cabecera.",
        "Compare the field that the member field names with the one of the issuer. If they differ, "
        "the token is for something else: do not accept it. Where it names data, the data do not "
        "fit into a header.",
    ),
    "token_not_for_caller": Advice(
        "Preséntalo con una cuenta o clave que esté en su audience.",
        "Present it as an account or with a key that is in its audience.",
    ),
    "idempotency_mismatch": Advice(
        "Haz una Idempotency-Key por operación, y guárdala con su cuerpo para repetirla.",
        "Make one Idempotency-Key for each operation, and keep it with its body for a repeat.",
    ),
    "too_many_active": Advice(
        "Crea los tokens cuando hagan falta y con una vida corta. Retry-After dice cuándo termina "
        "el siguiente.",
        "Create tokens when they are needed, with a short life. Retry-After says when the next one "
        "ends.",
    ),
    "too_many_cuts": Advice(
        "Revoca todos de una vez, sin purpose ni subject, o espera.",
        "Revoke all of them at once, without purpose and subject, or wait.",
    ),
    "too_many_keys": Advice(
        "Revoca en /auth/keys las claves que ya no uses.",
        "Revoke at /auth/keys the keys that are not used any more.",
    ),
    "store_unavailable": Advice(*SAME_KEY, "unknown"),
    "database_unavailable": Advice(
        "Repite la llamada tras los segundos de Retry-After.",
        "Repeat the call after the seconds of Retry-After.",
    ),
    "busy": Advice(
        "Repite la llamada tras los segundos de Retry-After, y un poco más en cada intento.",
        "Repeat the call after the seconds of Retry-After, and a little longer with each attempt.",
    ),
    "not_ready": Advice(
        "Para el operador: el campo checks nombra la parte que falla, y el registro dice por qué.",
        "For the operator: the member checks names the part that fails, and the log says why.",
    ),
    "internal_error": Advice(
        "Repite con la misma Idempotency-Key, e informa al operador del request_id.",
        "Repeat with the same Idempotency-Key, and tell the operator the request_id.",
        "unknown",
    ),
    "rate_limited": Advice(
        "Espera los segundos de Retry-After, y un poco más en cada intento. Si es lo habitual, "
        "pide al operador un límite mayor.",
        "Wait the seconds of Retry-After, and a little longer with each attempt. If it is usual, "
        "ask the operator for a higher limit.",
    ),
    "not_authenticated": Advice(
        "Envía Authorization: Bearer con un access_token de /auth/login o con una clave de "
        "servicio.",
        "Send Authorization: Bearer with an access_token of /auth/login, or with a service key.",
    ),
    "access_token_invalid": Advice(*LOG_IN),
    "access_token_expired": Advice(*LOG_IN),
    "session_ended": Advice(
        "Inicia sesión en /auth/login. Si ocurre sin motivo, otro programa puede tener tu "
        "refresh_token: cambia la contraseña.",
        "Log in at /auth/login. If it happens for no reason, another program may have your "
        "refresh_token: change the password.",
    ),
    "key_invalid": Advice(
        "Comprueba la clave y la red desde la que llamas, o haz otra clave.",
        "Check the key and the network that you call from, or make another key.",
    ),
    "insufficient_scope": Advice(
        "Usa una clave con el permiso (scope) que nombra WWW-Authenticate. Una clave no se amplía: "
        "se hace otra.",
        "Use a key with the scope that WWW-Authenticate names. A key is not extended: make "
        "another.",
    ),
    "purpose_not_allowed": Advice(
        "Usa una clave que admita ese propósito, o revisa el campo purpose.",
        "Use a key that allows this purpose, or check the field purpose.",
    ),
    "invalid_credentials": Advice(
        "Escribe la contraseña otra vez. Si la has olvidado, pide al operador un token para "
        "cambiarla.",
        "Type the password again. If it is forgotten, ask the operator for a reset token.",
    ),
    "registration_closed": Advice(
        "Pide al operador una cuenta.",
        "Ask the operator for an account.",
    ),
    "email_taken": Advice(
        "Inicia sesión con esa cuenta, o regístrate con otro correo.",
        "Log in with this account, or register another address.",
    ),
    "bad_request": Advice(
        "Revisa la petición HTTP: método, cabeceras y longitud.",
        "Check the HTTP request: method, headers and length.",
    ),
    "not_json": Advice(
        "Escribe el cuerpo con una biblioteca de JSON, no a mano.",
        "Write the body with a JSON library, not by hand.",
    ),
    "validation_failed": Advice(
        "Corrige cada campo que nombra errors. Si nombra Idempotency-Key, es la cabecera.",
        "Correct each field that errors names. Where it names Idempotency-Key, that is the header.",
    ),
    "payload_too_large": Advice(
        "Envía menos: data admite 4096 bytes. Guarda lo demás en tu lado y pon su id.",
        "Send less: data takes 4096 bytes. Keep the rest on your side, and put its id there.",
    ),
    "unsupported_media_type": Advice(
        "Envía la cabecera Content-Type: application/json.",
        "Send the header Content-Type: application/json.",
    ),
    "forbidden": Advice(
        "Llama desde donde se permite. /metrics pide su token o una dirección local.",
        "Call from where it is allowed. /metrics takes its token or a local address.",
    ),
    "not_found": Advice(
        "Compara la dirección con las de /docs.",
        "Compare the address with those of /docs.",
    ),
    "method_not_allowed": Advice(
        "Usa uno de los métodos de la cabecera Allow.",
        "Use one of the methods in the header Allow.",
    ),
}

#: Problems that are taken for each other.
GROUPS = (
    ("token_already_used", "token_reserved", "lease_ended"),
    ("token_expired", "token_revoked", "token_lost", "token_unknown", "token_malformed"),
    ("ticket_missing", "token_malformed", "not_authenticated"),
    ("token_mismatch", "token_not_for_caller", "purpose_not_allowed", "insufficient_scope"),
    ("not_authenticated", "access_token_invalid", "access_token_expired", "session_ended"),
    ("not_authenticated", "key_invalid", "insufficient_scope", "forbidden"),
    ("invalid_credentials", "email_taken", "registration_closed"),
    ("rate_limited", "busy", "too_many_active", "too_many_cuts", "too_many_keys"),
    ("store_unavailable", "database_unavailable", "busy", "not_ready", "internal_error"),
    ("idempotency_mismatch", "validation_failed", "token_already_used"),
    (
        *("bad_request", "not_json", "validation_failed", "payload_too_large"),
        "unsupported_media_type",
    ),
    ("not_found", "method_not_allowed", "forbidden"),
)


def neighbours(code: str) -> Iterator[str]:
    """The problems that this one is taken for, each once."""
    groups = (group for group in GROUPS if code in group)
    yield from dict.fromkeys(other for group in groups for other in group if other != code)
