"""Schemas that every domain shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import INCLUDE, Schema, ValidationError, fields, pre_load

#: In the metadata of a field that is another name of one beside it: the name of that one.
ALIAS = "x-alias-of"
#: The schema of an object with any members, which some generators take for one without.
OPEN_OBJECT = {"type": "object", "additionalProperties": True}

#: The schema of a response that is no JSON.
TEXT = {"type": "string"}


class Request(Schema):
    """What a call takes.

    :cvar examples: values that work, by name; they name what is safe to name
    """

    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {}


class Response(Schema):
    """A response. Clients must expect more members in later releases.

    :cvar may_lack: the members that are not always there
    """

    may_lack: ClassVar[frozenset[str]] = frozenset()

    class Meta:
        unknown = INCLUDE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Describe a member as required; to write a response, it means nothing."""
        field_obj.required = field_name not in self.may_lack


class Aliased(Request):
    """A request whose fields may come under an alias, and never under both names."""

    @pre_load
    def name_once(self, given: Any, **_: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        read = dict(given)
        for alias, field in self.fields.items():
            if alias in read and (name := field.metadata.get(ALIAS)):
                if name in read:
                    raise ValidationError("Another name of a field that is given too.", alias)
                read[name] = read.pop(alias)
        return read


class ProblemResponse(Response):
    """RFC 9457. Its enumeration of codes and its further members are those of the problems."""

    may_lack = frozenset({"errors"})
    type = fields.String(metadata={"example": "/problems/token_already_used"})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    code = fields.String(metadata={"description": "stable; clients switch on it"})
    request_id = fields.String()
    errors = fields.Dict(
        metadata={"description": "of `validation_failed`: the mistakes, by field", **OPEN_OBJECT}
    )
