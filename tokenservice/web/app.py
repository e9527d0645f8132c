"""HTTP as this service speaks it: whole bodies, headers of its own, and who is behind a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, request
from flask_cors import CORS
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter

from config import Config
from tokenservice.onetime.format import ID_PATTERN
from tokenservice.web.strictjson import StrictJSON

MAX_BODY_BYTES = 16 * 1024
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
EXPOSED_HEADERS = ["X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After"]


class Answer(Response):
    """A response whose headers are sent as they are, where Werkzeug would correct none of them.

    It copies them all to do so, for each response.
    """

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        if self.status_code in (200, 201):
            return self.headers
        return super().get_wsgi_headers(environ)


class Service(Flask):
    """Flask, for views that are all plain functions."""

    response_class = Answer

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # Flask and its extensions ask this sixteen times a request, and finding out whether a
        # function is a coroutine takes long.
        return func


class Proxies(ProxyFix):
    """Believes the last word about the client, that of the proxy.

    Werkzeug reads the words as a list of RFC 9110, which a quote that the client leaves open makes
    unreadable to its end: the client would pass for the proxy. An address has no quotes.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_X_FORWARDED_FOR" in environ:
            words = environ["HTTP_X_FORWARDED_FOR"].replace('"', "")
            environ["HTTP_X_FORWARDED_FOR"] = words
        return super().__call__(environ, start_response)


class TokenId(BaseConverter):
    """An id in a path; any other text there is no such page, not a token unknown to us."""

    regex = ID_PATTERN.pattern


def refuse_cut_body() -> None:
    """Refuse a body that is not whole: what there is of it might pass.

    Of a chunked one Werkzeug reads as much as the limit, and does not look whether that was all.
    Where its sender is gone, gunicorn hands on what has come: a create whose body was lost would
    make a token for anyone (RFC 9112 section 8).
    """
    announced = request.content_length or 0
    try:
        if "HTTP_TRANSFER_ENCODING" in request.environ:
            is_full = len(request.get_data()) == MAX_BODY_BYTES
            if is_full and request.environ["wsgi.input"].read(1):
                raise RequestEntityTooLarge
        elif announced <= MAX_BODY_BYTES and len(request.get_data()) < announced:
            raise BadRequest
    except (ParseException, OSError):
        raise BadRequest from None  # The chunks are not written as chunks are, or end too soon.


def secure(response: Response) -> Response:
    """Add the headers that a view has not set itself."""
    # In one pass: setdefault would read all headers again for each.
    there = {name.title() for name, _ in response.headers}
    for name, value in SECURITY_HEADERS.items():
        if name not in there:
            response.headers.add(name, value)
    return response


def init_app(app: Flask, config: Config) -> None:
    app.json = StrictJSON(app)
    app.url_map.converters["token_id"] = TokenId
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = Proxies(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    app.before_request(refuse_cut_body)
    app.after_request(secure)
    if config.cors_origins:
        CORS(
            app,
            origins=list(config.cors_origins),
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
