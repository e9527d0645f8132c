"""The kinds of value that a body may hold, each read into the one form that is kept."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from marshmallow import ValidationError, fields, validate

from tokenservice.auth import emails as correos
from tokenservice.auth import passwords
from tokenservice.web import plaintext

MAX_DATA_BYTES = 4096


class Text(fields.String):
    """A plain text; length counted in code points, after trimming."""

    def __init__(self, low: int, high: int, **options: Any) -> None:
        error = f"Takes {low} to {high} characters."
        super().__init__(validate=validate.Length(low, high, error=error), **options)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs).strip()
        if not plaintext.is_plain(text):
            raise ValidationError(
                "Takes no control characters, none that are invisible or turn the direction of "
                "writing, and up to 4 marks in a row."
            )
        return text


class Correo(fields.String):
    """An e-mail address, read in its canonical spelling."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return correos.canonical(super()._deserialize(value, *args, **kwargs))
        except ValueError:
            raise ValidationError("Not an e-mail address.") from None


class Password(fields.String):
    """A password, NFKC, never trimmed, truncated or folded (ASVS 5.0 V6.2.8).

    It has the right length as it is sent and as it is hashed: NFKC makes two characters of some.
    """

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        self._validate(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            # Of a command, whose input Python reads leniently in some locales.
            raise ValidationError("Not a valid utf-8 string.") from None
        return passwords.normalized(text)


class JsonObject(fields.Field[Any]):
    """A JSON object of a bounded size, kept as the text that is handed on."""

    def __init__(self, **options: Any) -> None:
        metadata = {"type": "object", **options.pop("metadata", {})}
        super().__init__(**options, metadata=metadata)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        if not isinstance(value, dict):
            raise ValidationError("Not a JSON object.")
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) > MAX_DATA_BYTES:
            raise ValidationError("Takes up to 4096 bytes of JSON.")
        return text

    def _serialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return json.loads(value) if value else None


class Member(fields.String):
    """A user id or an e-mail address, in the one spelling that is compared."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        try:
            return correos.canonical(text) if "@" in text else str(uuid.UUID(text))
        except ValueError:
            raise ValidationError("Not a user id or an e-mail address.") from None


class Bind(fields.String):
    """The SHA-256 of an action, in lower-case hexadecimal."""

    def __init__(self, **options: Any) -> None:
        metadata = {"pattern": "^[0-9A-Fa-f]{64}$", **options.pop("metadata", {})}
        super().__init__(**options, metadata=metadata)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs).lower()
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            raise ValidationError("Takes 64 hexadecimal characters.")
        return text


def matching(pattern: str, error: str, **options: Any) -> fields.String:
    r"""A text that is all of ``pattern``.

    The API's description speaks the regular expressions of JavaScript, which look anywhere in a
    text, and where ``\Z`` is a letter (JSON Schema 2020-12, section 6.4).
    """
    described = {"pattern": f"^{pattern}$", **options.pop("metadata", {})}
    rule = validate.Regexp(rf"{pattern}\Z", error=error)
    return fields.String(validate=rule, metadata=described, **options)


def purpose() -> fields.String:
    return matching(
        "[a-z0-9._:-]{1,64}",
        "Takes 1 to 64 of a-z, 0-9 and ._:- only.",
        metadata={"example": "ws.connect"},
    )
