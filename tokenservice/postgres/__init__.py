"""Postgres: the engine's options, time limits, the breaker and standby handling."""

from __future__ import annotations

import math
from contextlib import suppress

import psycopg2.extensions
from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from config import Config
from tokenservice.extensions import add, db
from tokenservice.postgres import timeouts
from tokenservice.postgres.breaker import Breaker

READ_ONLY = "25006"


def leave_read_only_server(context: ExceptionContext) -> None:
    """Drop the pool when its server has become a standby.

    A ping still succeeds there, so without this every write would fail until a restart.
    """
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def end_session(_: BaseException | None) -> None:
    """Roll back the open transaction of a request.

    The response exists already: a server that is gone by now, or hangs, must not turn it into a
    500.
    """
    with suppress(SQLAlchemyError):
        db.session.remove()
    timeouts.patience.seconds = math.inf


def init_app(app: Flask, config: Config) -> None:
    breaker = Breaker(config.web_threads)
    add(app, breaker)
    url = config.sqlalchemy_url
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        # One connection more is for /readyz, and one for the look at changed accounts.
        "pool_size": breaker.places + 2,
        "max_overflow": 0,
        "pool_timeout": 1,
        "hide_parameters": True,
        # Arguments here would replace those of the address.
        "connect_args": {
            name: value for name, value in timeouts.KEEP_ALIVE.items() if name not in url.query
        },
    }
    db.init_app(app)
    # Every wait of this process has a bound: psycopg2 knows only one way to wait.
    psycopg2.extensions.set_wait_callback(timeouts.wait)
    app.before_request(timeouts.begin_request)
    # After db.init_app: the last registered teardown runs first.
    app.teardown_appcontext(end_session)
    with app.app_context():
        event.listen(db.engine, "do_connect", timeouts.connect)
        event.listen(db.engine, "begin", timeouts.begin_transaction)
        event.listen(db.engine, "checkin", timeouts.given_back)
        event.listen(db.engine, "checkout", timeouts.taken)
        event.listen(db.engine, "handle_error", leave_read_only_server)
