"""A service of single-use tokens. :func:`create_app` wires it, and is the only place that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, request
from flask_cors import CORS
from flask_smorest import Api
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter

from config import Config
from tokenservice import (
    auth,
    callers,
    cli,
    errors,
    lease,
    limits,
    logs,
    metrics,
    openapi,
    ops,
    postgres,
    token,
)
from tokenservice.extensions import db, migrate
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.format import ID_PATTERN
from tokenservice.onetime.store import TokenStore
from tokenservice.passwords import Passwords
from tokenservice.strictjson import StrictJSON

MIGRATIONS = Path(__file__).parent.parent / "migrations"
MAX_BODY_BYTES = 16 * 1024
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
EXPOSED_HEADERS = ["X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After"]


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


def create_app(config: Config) -> Flask:
    """Build the service. Nothing connects here: the first request does."""
    app = Service(__name__)
    app.extensions["config"] = config

    # What an operator sees. First, for it times and names each request.
    logs.configure(config.log_level)
    logs.init_app(app)
    metrics.init_app(app)

    # What a request may be, and what its answer always carries.
    app.json = StrictJSON(app)
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

    # Postgres.
    app.config["SQLALCHEMY_DATABASE_URI"] = config.sqlalchemy_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": config.web_threads,
        "max_overflow": 0,
        "pool_timeout": 1,
        "pool_pre_ping": True,
        "hide_parameters": True,
        "connect_args": postgres.SERVER_LIMITS,
    }
    db.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        metrics.watch_engine(db.engine)
    postgres.init_app(app)

    # Redis: the engine and the limits each have connections of their own, so that neither
    # can starve the other.
    tokens_redis, limits_redis = (
        Connection(
            config.redis_address,
            connect_ms=config.redis_connect_timeout_ms,
            read_ms=config.redis_timeout_ms,
            connections=config.web_threads,
        )
        for _ in range(2)
    )
    app.extensions["redis"] = tokens_redis
    app.extensions["tokens"] = TokenStore(
        tokens_redis,
        secret=config.secret_key.encode(),
        receipt_seconds=config.receipt_seconds,
        window_seconds=config.idempotency_window_seconds,
        max_active=config.max_active,
        shards=config.redis_shards,
        timed=metrics.RedisCall,
    )
    counters = limits.Counters(limits_redis, config.web_concurrency, metrics.RedisCall)

    # Who may do what. Callers before limits: a limit by caller needs to know the caller.
    app.extensions["passwords"] = Passwords(
        config.argon2_memory_kib, config.web_concurrency, config.web_threads
    )
    callers.init_app(app, config)
    limits.init_app(app, counters)

    # What can be asked.
    api = Api(app, spec_kwargs=openapi.options(config.app_name))
    app.url_map.converters["token_id"] = TokenId
    api.register_blueprint(auth.blueprint)
    api.register_blueprint(token.blueprint)
    api.register_blueprint(lease.blueprint)
    ops.init_app(app, openapi.document(api))
    cli.init_app(app)
    errors.init_app(app)
    return app


def refuse_cut_body() -> None:
    """Refuse a body that is not whole: what there is of it might pass.

    Werkzeug cuts a chunked one at the limit without a word. Where its sender is gone, gunicorn
    hands on what has come: a create whose body was lost would make a token for anyone (RFC 9112
    section 8).
    """
    announced = request.content_length or 0
    try:
        if "HTTP_TRANSFER_ENCODING" in request.environ:
            if len(request.get_data()) >= MAX_BODY_BYTES:
                raise RequestEntityTooLarge
        elif announced <= MAX_BODY_BYTES and len(request.get_data()) < announced:
            raise BadRequest
    except ParseException:
        raise BadRequest from None  # The chunks are not written as chunks are.


def secure(response: Response) -> Response:
    """Add the headers that a view has not set itself."""
    # In one pass: setdefault would read all headers again for each.
    there = {name.title() for name, _ in response.headers}
    for name, value in SECURITY_HEADERS.items():
        if name not in there:
            response.headers.add(name, value)
    return response
