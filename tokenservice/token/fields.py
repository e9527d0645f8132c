"""Field types of a token's terms."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields, validate

from tokenservice.auth import emails
from tokenservice.extensions import config
from tokenservice.web.fields import matching
from tokenservice.web.schemas import OPEN_OBJECT

MAX_DATA_BYTES = 4096


class JsonObject(fields.Field[Any]):
    """A JSON object of a bounded size, kept as compact text."""

    def __init__(self, **options: Any) -> None:
        metadata = {**OPEN_OBJECT, **options.pop("metadata", {})}
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
    """A user id or an e-mail address, in its canonical spelling."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        try:
            if "@" in text:
                return emails.canonical(text, local_domains=config.local_domains)
            return str(uuid.UUID(text))
        except ValueError:
            raise ValidationError("Not a user id or an e-mail address.") from None


class Flag(fields.Boolean):
    """The value true or false, and none that stands for it elsewhere, such as 1 or "yes"."""

    default_error_messages = {"invalid": "Takes true or false."}  # noqa: RUF012

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


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


def members_field(description: str, *, required: bool = False) -> fields.List[str]:
    return fields.List(
        Member(metadata={"example": "luis@example.com"}),
        required=required,
        validate=validate.Length(1, 16, error="Takes 1 to 16 members."),
        metadata={"description": description},
    )


def issuers_field(*, required: bool = False) -> fields.List[str]:
    accepted = "the only accounts whose tokens are accepted; always name them"
    return members_field(accepted, required=required)


def purpose_field(*checks: Callable[[str], None], required: bool = False) -> fields.String:
    return matching(
        "[a-z0-9._:-]{1,64}",
        "Takes 1 to 64 of a-z, 0-9 and ._:- only.",
        checks=checks,
        required=required,
        metadata={"example": "ws.connect"},
    )
