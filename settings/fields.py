"""Fields of settings: the kinds of text that they are read from, and what each refuses."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import Any

import limits
from marshmallow import ValidationError, fields, validate

SAMPLE_SECRET_KEY = "clave_super_segura_cambia_esto"  # noqa: S105 - refused below
MIN_SECRET_KEY_BYTES = 32
LONGEST_WINDOW_SECONDS = 366 * 86_400
# A page of the web, of an app with a scheme of its own, or of a browser's extension.
ORIGIN = re.compile(
    r"https?://([a-z0-9.-]+|\[(?P<ipv6>[0-9a-f:.]+)\])(:[0-9]{1,5})?"
    r"|[a-z][a-z0-9+.-]*://localhost(:[0-9]{1,5})?"
    r"|[a-z-]+-extension://[a-z0-9-]+",
    re.IGNORECASE | re.ASCII,
)
PUBLIC_URL = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*", re.ASCII
)


def strong_key(key: str) -> None:
    """RFC 7518 section 3.2: an HS256 key has at least 256 bits."""
    if key == SAMPLE_SECRET_KEY:
        raise ValidationError("is the sample value of the documentation: choose your own")
    if len(key.encode()) < MIN_SECRET_KEY_BYTES:
        raise ValidationError(f"is shorter than {MIN_SECRET_KEY_BYTES} bytes")


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma separated list; blanks around them do not count."""
    return tuple(part for each in text.split(",") if (part := each.strip()))


def rate(words: str) -> None:
    """One rate and no list of them: of a list the limiter would take the first alone."""
    try:
        given = [] if words == "off" else limits.parse_many(words)
    except ValueError:
        raise ValidationError('is not a rate such as "60 per minute", nor "off"') from None
    if len(given) > 1:
        raise ValidationError("is more than one rate")
    if any(one.amount < 1 or one.get_expiry() > LONGEST_WINDOW_SECONDS for one in given):
        raise ValidationError("does not allow at least one call, within a year at most")


def base_url(text: str) -> None:
    """An address as RFC 8414 section 2 wants it, to which paths are appended."""
    if not PUBLIC_URL.fullmatch(text):
        raise ValidationError(
            "is not an address such as https://tokens.example.com, without a / at its end"
        )


def is_origin(text: str) -> bool:
    """Tell whether ``text`` is an origin as a browser writes it."""
    found = ORIGIN.fullmatch(text)
    if found is None or found["ipv6"] is None:
        return found is not None
    try:
        return str(ipaddress.IPv6Address(found["ipv6"])) == found["ipv6"].lower()
    except ValueError:
        return False


class Word(fields.String):
    """Text in lower case: ``LOG_LEVEL=INFO`` is what other programs call it."""

    def _deserialize(self, value: Any, *more: Any, **options: Any) -> Any:
        return str(super()._deserialize(value, *more, **options)).strip().lower()


class Origins(fields.Field[tuple[str, ...]]):
    """Exact CORS origins, comma separated.

    Flask-CORS takes a string with any of ``* \\ ] ? $ ^ [ ( )`` for a regular expression and
    matches only its beginning, so that ``https://trusted\\.com`` would let in
    ``https://trusted.com.evil.example``. Nothing but scheme, host and port passes here, and
    ``web/headers.py`` escapes the brackets of an IPv6 address.
    """

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        origins = listed(str(value))
        for origin in origins:
            if not is_origin(origin):
                raise ValidationError("takes exact origins only, such as https://app.example.com")
        return origins


class Keys(fields.Field[tuple[str, ...]]):
    """Secret keys, comma separated, each as strong as the one that signs."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        keys = listed(str(value))
        for key in keys:
            try:
                strong_key(key)
            except ValidationError as error:
                raise ValidationError(f"has a key that {error.messages[0]}") from None
        return keys


def absolute(path: str) -> None:
    if not path.startswith("/"):
        raise ValidationError("is no absolute path")


def setting(field: fields.Field[Any]) -> Any:
    """A dataclass field; ``field`` parses and validates its value, and has its default."""
    if field.required:
        return dataclasses.field(metadata={"field": field})
    return dataclasses.field(default=field.load_default, metadata={"field": field})


def text(default: str | None = None, *checks: Any) -> Any:
    return setting(fields.String(load_default=default, allow_none=True, validate=list(checks)))


def word(default: str, check: Any) -> Any:
    return setting(Word(load_default=default, validate=check))


def whole(default: int, low: int, high: int) -> Any:
    in_range = validate.Range(low, high, error=f"is not from {low} to {high}")
    return setting(fields.Integer(load_default=default, validate=in_range))
