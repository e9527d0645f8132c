"""Schemas that every domain shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import INCLUDE, Schema, ValidationError, fields, pre_load

#: In the metadata of a field that is another name of one beside it: the name of that one.
ALIAS = "x-alias-of"


class Response(Schema):
    """A response. Clients must expect more members in later releases."""

    class Meta:
        unknown = INCLUDE


class Aliased(Schema):
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
    """RFC 9457."""

    type = fields.String(metadata={"example": "/problems/token_already_used"})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    code = fields.String(metadata={"description": "stable; clients switch on it"})
    request_id = fields.String()
    errors = fields.Dict(metadata={"description": "by field"})
