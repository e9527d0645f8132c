"""A service of single-use tokens. :func:`create_app` wires it, and is the only place that does."""

from __future__ import annotations

from flask import Flask

from config import Config
from settings.addresses import redis_servers
from tokenservice import auth, ops, postgres, token, web
from tokenservice.auth.door import Door
from tokenservice.auth.problems import CALLER_REFUSALS
from tokenservice.extensions import add, db
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.store import TokenStore
from tokenservice.telemetry import logs, metrics, traces
from tokenservice.telemetry.audit import trail
from tokenservice.web import openapi
from tokenservice.web.app import Service
from tokenservice.web.counters import Counters


def create_app(config: Config) -> Flask:
    """Build the service. Nothing connects here: the first request does."""
    app = Service(__name__, static_folder=None)
    add(app, config)

    logs.configure(config.log_level)
    trail.configure(config.audit_log, config.audit_path)
    spans = traces.module("spans")
    traced = spans and spans.Calls(app.url_map, config.trusted_proxies)
    timed = spans.RedisCall if spans else metrics.RedisCall
    api = web.init_app(app, config, traced)

    postgres.init_app(app, config)
    with app.app_context():
        metrics.watch_engine(db.engine)
        if spans:
            spans.watch_engine(db.engine)

    # The engine and the limits each have their own connections to Redis: neither can starve the
    # other.
    tokens, limits = (
        Connection(
            **redis_servers(config.redis_address),
            connect_ms=config.redis_connect_timeout_ms,
            read_ms=config.redis_timeout_ms,
            connections=config.web_threads + 1,  # Those of the pool, and the worker's own.
        )
        for _ in range(2)
    )
    add(
        app,
        TokenStore(
            tokens,
            secret=config.secret_key.encode(),
            fallbacks=[key.encode() for key in config.secret_key_fallbacks],
            receipt_seconds=config.receipt_seconds,
            window_seconds=config.idempotency_window_seconds,
            max_active=config.max_active,
            shards=config.redis_shards,
            timed=timed,
        ),
        Counters(
            limits,
            workers=config.web_concurrency,
            secret=config.secret_key.encode(),
            timed=timed,
        ),
    )

    auth.init_app(app, config, api)
    token.init_app(app, config, api)
    ops.init_app(app, api)
    add(app, Door(app, token.PLANS, config, engine=tokens, counting=limits, traced=traced))
    openapi.init_app(app, api, CALLER_REFUSALS)
    return app
