"""Request bodies: their size, their completeness, and the parser that reads them."""

from __future__ import annotations

import functools
from typing import Any

from flask import Flask, Request, request
from flask_smorest import Blueprint as SmorestBlueprint
from webargs.core import is_json
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header

from tokenservice.web import strictjson
from tokenservice.web.problems import Problem

MAX_BODY_BYTES = 16 * 1024
FORM = "application/x-www-form-urlencoded"


def read_json(body: bytes, content_type: str) -> Any:
    """Read a body as strict JSON; no body reads as an empty object.

    :raises Problem: it is something else
    """
    if not body:
        return {}
    if not is_json(media_type(content_type)):
        raise Problem("unsupported_media_type")
    try:
        return strictjson.loads(body)
    except ValueError:
        raise Problem("not_json") from None


@functools.lru_cache(64)
def media_type(content_type: str) -> str:
    return parse_options_header(content_type)[0].lower()


class BodyParser(FlaskParser):
    """Read a body as strict JSON."""

    def load_json(self, req: Request, schema: Any) -> Any:
        return read_json(req.get_data(cache=True), req.headers.get("Content-Type", ""))


def examples_of(schema: Any) -> dict[str, Any]:
    """The examples of a schema, as the OpenAPI document names them."""
    return {name: {"value": value} for name, value in getattr(schema, "examples", {}).items()}


class Blueprint(SmorestBlueprint):
    """A blueprint whose views read their arguments strictly."""

    ARGUMENTS_PARSER = BodyParser()

    def arguments(self, schema: Any, **options: Any) -> Any:
        """Check the arguments of a view, and describe them with the examples of their schema."""
        if examples := examples_of(schema):
            options.setdefault("examples", examples)
        return super().arguments(schema, **options)


def refuse_long_body() -> None:
    """Refuse a chunked body over the limit, of which Werkzeug reads no more than the limit.

    The service's own server does so before it makes a request; others do not.
    """
    if "HTTP_TRANSFER_ENCODING" in request.environ:
        is_full = len(request.get_data()) == MAX_BODY_BYTES
        if is_full and request.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge


def init_app(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    app.before_request(refuse_long_body)
