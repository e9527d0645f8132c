"""Removal of what ended long ago, for commands. Only the role that owns the tables may."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
from sqlalchemy import ColumnElement, Delete, Executable, Update, delete, func, select

from tokenservice.audit import events
from tokenservice.audit.events import Action
from tokenservice.extensions import db

BATCH = 500


def days(default: int) -> Any:
    """The option that says how long rows stay."""
    return click.option(
        "--days",
        type=click.IntRange(0, 3660),
        default=default,
        help=f"How long ended ones stay ({default}).",
    )


def purge(table: Any, ended_at: ColumnElement[Any], days: int, action: Action) -> int:
    """Delete the rows that ended so many days ago; return their number.

    :param ended_at: the time of a row's end, null for a row that has not ended
    :param action: what the event of it is called
    """
    # A worker forgets the accounts of what is deleted, and everyone where that is many at once.
    events.record(action, older_than_days=days)
    return in_batches(delete(table), table.id, ended_at < func.now() - timedelta(days=days))


def in_batches(
    change: Delete | Update,
    key: Any,
    which: ColumnElement[bool],
    first: Executable | None = None,
) -> int:
    """Change rows a batch at a time, each in a transaction; return their number.

    The first one commits what the caller has begun, its event.

    :param which: tells rows that are still to be changed
    :param first: begins each transaction
    """
    some = select(key).where(which).limit(BATCH).with_for_update(skip_locked=True)
    batch = change.where(key.in_(some)).execution_options(synchronize_session=False)
    done = 0
    while True:
        if first is not None:
            db.session.execute(first)
        count: int = db.session.execute(batch).rowcount  # type: ignore[attr-defined]
        db.session.commit()
        if not count:
            return done
        done += count
