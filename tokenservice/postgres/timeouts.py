"""How long a request waits for Postgres, and what makes the pool look for another server.

A server that hangs says nothing, and its own timeouts end nothing: without a limit on our side
each call would keep its thread for ever, until no thread is left to say that we are alive.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2.extensions
from flask import Flask
from psycopg2 import OperationalError
from psycopg2.extensions import POLL_OK, POLL_READ
from psycopg2.extensions import connection as Connection
from sqlalchemy import event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from tokenservice.extensions import breaker, db
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS

#: All that one request waits for Postgres, however many queries it makes. Hashing a password
#: is not waiting for Postgres, and looking up its host's name has the resolver's own timeouts.
REQUEST_SECONDS = 0.9
#: What has no request behind it, a command or a migration, waits only to be let in.
CONNECT_SECONDS = 2.0
#: The server's own limits come first: after those the connection is still of use.
SERVER_LIMITS = {"options": "-c statement_timeout=800 -c lock_timeout=700"}
READ_ONLY = "25006"


class Patience(threading.local):
    """How many seconds this thread will still wait for Postgres."""

    seconds = math.inf


patience = Patience()


@contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Wait ``seconds`` at most in the block, or less where less is left."""
    before = patience.seconds
    patience.seconds = given = min(seconds, before)
    try:
        yield
    finally:
        patience.seconds = before - (given - patience.seconds)


def wait(connection: Connection) -> None:
    """Wait for an answer, as libpq would, but no longer than this thread's patience.

    :raises psycopg2.OperationalError: it is over, and psycopg2 closes the connection
    """
    while (state := connection.poll()) != POLL_OK:
        # Anew each time: between two addresses of a host the socket changes.
        poller = select.poll()
        poller.register(connection, select.POLLIN if state == POLL_READ else select.POLLOUT)
        started = time.monotonic()
        left = max(0.0, patience.seconds) * 1000
        answered = poller.poll(None if left == math.inf else left)
        patience.seconds -= time.monotonic() - started
        if not answered:
            raise OperationalError("Postgres did not answer in time")


def connect(dialect: Dialect, _: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Try one host after the other, as libpq does, each for its share of the time.

    libpq counts the time of each host only where it waits itself.
    """
    servers = each_host(options)
    share = min(CONNECT_SECONDS, patience.seconds / len(servers))
    for server in servers[:-1]:
        with suppress(OperationalError), waiting(share):
            return dialect.connect(*args, **server)
    with waiting(share):
        return dialect.connect(*args, **servers[-1])


def each_host(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The same options for each host that they name."""
    hosts, ports = (str(options.get(name, "")).split(",") for name in ("host", "port"))
    if len(hosts) == 1:
        return [options]
    ports *= 1 if len(ports) > 1 else len(hosts)
    return [
        {**options, "host": host, "port": port or None}
        for host, port in zip(hosts, ports, strict=True)
    ]


@contextmanager
def asking(try_again_seconds: float = TRY_AGAIN_SECONDS) -> Iterator[None]:
    """Let a request ask Postgres in the block, and hold no connection after it.

    :raises tokenservice.breaker.NotAsked: too many wait for it, or in vain
    """
    with breaker.asking(try_again_seconds):
        try:
            yield
        finally:
            db.session.close()


def leave_read_only_server(context: ExceptionContext) -> None:
    """Drop the pool when its server has become a standby.

    A ping still succeeds there, so without this every write fails until a restart.
    """
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def end_session(_: BaseException | None) -> None:
    """Roll back what a request left open. Its answer is made, so a server that is gone by now,
    or hangs, must not turn it into a 500."""
    with suppress(SQLAlchemyError):
        db.session.remove()
    patience.seconds = math.inf


def init_app(app: Flask) -> None:
    """Bound every wait of this process: psycopg2 knows only one way to wait.

    After ``db.init_app``: what was registered last is torn down first.
    """
    psycopg2.extensions.set_wait_callback(wait)
    app.before_request(lambda: setattr(patience, "seconds", REQUEST_SECONDS))
    app.teardown_appcontext(end_session)
    with app.app_context():
        event.listen(db.engine, "do_connect", connect)
        event.listen(db.engine, "handle_error", leave_read_only_server)
