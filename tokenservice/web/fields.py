"""Field types that every domain shares, each read into the one form that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from marshmallow import ValidationError, fields, validate

from tokenservice.web import plaintext


class Text(fields.String):
    """Plain text; its length is counted in code points, after trimming."""

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


class OptionalText(fields.String):
    """A text of a response, null where it is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_none=True, **options)

    def _serialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return value or None


def matching(
    pattern: str, error: str, checks: Iterable[Callable[[str], None]] = (), **options: Any
) -> fields.String:
    r"""A text that matches all of ``pattern``.

    The OpenAPI document speaks the regular expressions of JavaScript, which match anywhere in a
    text, and where ``\Z`` is a letter (JSON Schema 2020-12, section 6.4).
    """
    described = {"pattern": f"^{pattern}$", **options.pop("metadata", {})}
    rule = validate.Regexp(rf"{pattern}\Z", error=error)
    return fields.String(validate=[rule, *checks], metadata=described, **options)
