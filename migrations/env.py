"""Run migrations on the engine of the application."""

from __future__ import annotations

import sys
import time

import click
from alembic import context
from flask import current_app
from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError

from config import Config
from tokenservice.audit import events
from tokenservice.audit.models import AuditEvent
from tokenservice.postgres import schema

# Every other query of a table queues behind a waiting ALTER TABLE. So a migration waits for a lock
# for less time than a request does, lets the requests pass, and tries again.
LOCK_TIMEOUT = "300ms"
TRIES, PAUSE_SECONDS = 30, 1.0

# FLASK_APP may name another application, with a database of its own.
if Config.__name__ not in current_app.extensions:
    sys.exit("This application is not the token service. Take FLASK_APP out of the environment.")

database = current_app.extensions["migrate"].db


def run() -> None:
    for left in reversed(range(TRIES)):
        try:
            migrate()
            return
        except OperationalError as error:
            if not left or not isinstance(error.orig, LockNotAvailable):
                raise
            time.sleep(PAUSE_SECONDS)


def migrate() -> None:
    with database.engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=database.metadata, compare_type=True
        )
        with context.begin_transaction():
            # A pooler may give the next transaction another session.
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            # Building an index may take long.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            # Two hosts that deploy at once run one after the other; the second has nothing to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(7305812664)"))
            if is_upgrade() and is_newer(connection):
                click.echo("The schema is newer than this code: nothing to do.")
                return
            before = revision()
            context.run_migrations()
            record(connection, before, revision())


def revision() -> str:
    return " ".join(context.get_context().get_current_heads())


def record(connection: Connection, before: str, after: str) -> None:
    """Write the event of a change of the schema, if there is one and a table for it."""
    if before != after and inspect(connection).has_table(AuditEvent.__tablename__):
        action: events.Action = "database.upgraded" if after > before else "database.downgraded"
        events.record(action, before=before, after=after, into=connection)


def is_upgrade() -> bool:
    """Whether this is ``flask db upgrade``. Any other command needs the newer code."""
    command = click.get_current_context(silent=True)
    return command is not None and command.info_name == "upgrade"


def is_newer(connection: Connection) -> bool:
    found = context.get_context().get_current_heads()
    head = context.script.get_current_head() or ""
    return schema.compare(connection, found, head) == schema.NEWER


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=database.metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    run()
