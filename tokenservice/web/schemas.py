"""Schemas that every domain shares."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields


class Response(Schema):
    """A response. Clients must expect more members in later releases."""

    class Meta:
        unknown = INCLUDE


class ProblemResponse(Response):
    """RFC 9457."""

    type = fields.String(metadata={"example": "/problems/token_already_used"})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    code = fields.String(metadata={"description": "stable; clients switch on it"})
    request_id = fields.String()
    errors = fields.Dict(metadata={"description": "by field"})
