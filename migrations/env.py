"""Run migrations on the application's own engine."""

from __future__ import annotations

from alembic import context
from flask import current_app
from sqlalchemy import text

database = current_app.extensions["migrate"].db


def run() -> None:
    with database.engine.connect() as connection:
        # A migration waits for its turn this long and no longer: behind a waiting ALTER TABLE
        # every other query of that table queues too. Building an index may take its time.
        connection.execute(text("SET lock_timeout = '2s'"))
        connection.execute(text("SET statement_timeout = 0"))
        connection.commit()
        context.configure(
            connection=connection, target_metadata=database.metadata, compare_type=True
        )
        with context.begin_transaction():
            # Two hosts that deploy at once take turns; the second finds nothing to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(7305812664)"))
            context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=database.metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    run()
