"""Request bodies: their size, their completeness, and the parser that reads them."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, request
from flask_smorest import Blueprint as SmorestBlueprint
from webargs.core import is_json
from webargs.flaskparser import FlaskParser, abort
from werkzeug.exceptions import RequestEntityTooLarge

from tokenservice.web import strictjson

MAX_BODY_BYTES = 16 * 1024
FORM = "application/x-www-form-urlencoded"


class BodyParser(FlaskParser):
    """Read a body as strict JSON; no body reads as an empty object."""

    def load_json(self, req: Request, schema: Any) -> Any:
        body = req.get_data(cache=True)
        if not body:
            return {}
        if not is_json(req.mimetype):
            abort(415)
        try:
            return strictjson.loads(body)
        except ValueError:
            abort(400, not_json=True)


class Blueprint(SmorestBlueprint):
    """A blueprint whose views read their arguments strictly."""

    ARGUMENTS_PARSER = BodyParser()


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
