"""Responses of the probes."""

from __future__ import annotations

from marshmallow import fields, validate

from tokenservice.web.schemas import Response


class HealthResponse(Response):
    status = fields.String(validate=validate.Equal("alive"))


class ReadinessResponse(Response):
    status = fields.String(validate=validate.Equal("ready"))
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "the state of each part, by its name"},
    )
