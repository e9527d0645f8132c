"""Time limits of every wait for Postgres, and the renewal of idle connections.

A server that hangs sends nothing, and its own timeouts end nothing: without a limit on this side
each call would keep its thread for ever, until no thread is left for the probes.
"""

from __future__ import annotations

import math
import secrets
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import sqlalchemy.engine
from psycopg2 import OperationalError
from psycopg2.extensions import POLL_OK, POLL_READ
from psycopg2.extensions import connection as Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

#: The time that one request may wait for Postgres, over all its queries. Password hashing does not
#: count, and the look-up of a host name has the resolver's own timeouts.
REQUEST_SECONDS = 0.9
#: A command or a migration, without a request, waits this long for a connection, and no more.
CONNECT_SECONDS = 2.0
#: The server's own limits end first: the connection stays usable after them. Each transaction has
#: its own: a pooler takes no start-up options, and may give each transaction another session.
SERVER_LIMITS = "SET LOCAL statement_timeout = 800; SET LOCAL lock_timeout = 700"
#: A middlebox forgets a connection without traffic, and then drops whatever it sends.
KEEP_ALIVE = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
#: A connection that was idle for longer is renewed.
RENEW_SECONDS = 30.0
#: The time limit of the ping of a connection that was idle for less. A new one must fit into the
#: rest of the request's time.
PING_SECONDS = 0.4
#: The options of libpq that are lists, with an item for each host.
EACH = ("host", "hostaddr", "port")


class Patience(threading.local):
    """The seconds that this thread may still wait for Postgres."""

    seconds = math.inf


patience = Patience()


def begin_request() -> None:
    patience.seconds = REQUEST_SECONDS


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
    """Wait as libpq would, but no longer than this thread's patience.

    :raises psycopg2.OperationalError: the patience is over; psycopg2 closes the connection
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


def begin_transaction(connection: sqlalchemy.engine.Connection) -> None:
    connection.exec_driver_sql(SERVER_LIMITS)


def given_back(_: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["idle since"] = time.monotonic()


def taken(connection: Connection, entry: ConnectionPoolEntry, _: Any) -> None:
    """Renew a connection that may be gone, instead of waiting for it.

    SQLAlchemy's own ping waits for as long as the request may.
    """
    idle_since = entry.info.pop("idle since", None)
    if idle_since is None:
        return  # A new one.
    if time.monotonic() - idle_since > RENEW_SECONDS:
        raise DisconnectionError
    try:
        with waiting(PING_SECONDS):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.autocommit = False
    except psycopg2.Error:
        raise InvalidatePoolError from None


def connect(dialect: Dialect, _: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Try one host after the other, as libpq does, each for its share of the time.

    libpq bounds the time of each host only in its own waits.
    """
    servers = each_host(options)
    most = float(options.get("connect_timeout", CONNECT_SECONDS))
    share = min(most, patience.seconds / len(servers))
    for server in servers[:-1]:
        with suppress(OperationalError), waiting(share):
            return dialect.connect(*args, **server)
    with waiting(share):
        return dialect.connect(*args, **servers[-1])


def each_host(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Copies of the options, one for each host in them."""
    lists = {name: str(options[name]).split(",") for name in EACH if options.get(name)}
    count = max(map(len, lists.values()), default=1)
    if count == 1:
        return [options]
    servers = [
        options | {name: (many * count)[n] or None for name, many in lists.items()}
        for n in range(count)
    ]
    if options.get("load_balance_hosts") == "random":
        secrets.SystemRandom().shuffle(servers)
    return servers
