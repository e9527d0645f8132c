"""A service of single-use tokens. :func:`create_app` wires it, and is the only place that does."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask_smorest import Api

from config import Config
from tokenservice.auth import callers, registration
from tokenservice.auth.commands import users
from tokenservice.auth.passwords import Passwords
from tokenservice.extensions import db, migrate
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.store import TokenStore
from tokenservice.ops import probes
from tokenservice.postgres import timeouts
from tokenservice.postgres.breaker import Breaker
from tokenservice.telemetry import logs, metrics
from tokenservice.token import creation, reservations
from tokenservice.token.commands import one_time
from tokenservice.web import app as http
from tokenservice.web import limits, openapi, problems
from tokenservice.web.counters import Counters

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def create_app(config: Config) -> Flask:
    """Build the service. Nothing connects here: the first request does."""
    app = http.Service(__name__, static_folder="ops/static", template_folder="ops/templates")
    app.extensions["config"] = config

    # What an operator sees. First, for it times and names each request.
    logs.configure(config.log_level)
    logs.init_app(app)
    metrics.init_app(app)

    # What a request may be, and what its answer always carries.
    http.init_app(app, config)

    # Postgres, and how many requests may wait for it. One connection more is for /readyz.
    app.extensions["breaker"] = breaker = Breaker(config.web_threads)
    app.config["SQLALCHEMY_DATABASE_URI"] = config.sqlalchemy_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": breaker.places + 1,
        "max_overflow": 0,
        "pool_timeout": 1,
        "pool_pre_ping": True,
        "hide_parameters": True,
        "connect_args": timeouts.SERVER_LIMITS,
    }
    db.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        metrics.watch_engine(db.engine)
    timeouts.init_app(app)

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
    counters = Counters(
        limits_redis,
        workers=config.web_concurrency,
        secret=config.secret_key.encode(),
        timed=metrics.RedisCall,
    )

    # Who may do what. Callers before limits: a limit by caller needs to know the caller.
    app.extensions["passwords"] = Passwords(
        config.argon2_memory_kib, config.web_concurrency, config.web_threads
    )
    callers.init_app(app, config)
    limits.init_app(app, counters)

    # What can be asked.
    api = Api(app, spec_kwargs=openapi.options(config.app_name))
    api.register_blueprint(registration.blueprint)
    api.register_blueprint(creation.blueprint)
    api.register_blueprint(reservations.blueprint)
    probes.init_app(app, openapi.document(api))
    app.cli.add_command(users)
    app.cli.add_command(one_time)
    problems.init_app(app)
    return app
