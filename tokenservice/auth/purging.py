"""Deletion of rows that ended long ago, for commands. Only the role that owns the tables may."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
from sqlalchemy import ColumnElement, delete, func, select

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


def purge(table: Any, ended_at: ColumnElement[Any], days: int) -> int:
    """Delete the rows that ended so many days ago, a batch at a time; return their number.

    :param ended_at: the time of a row's end, null for a row that has not ended
    """
    # A worker forgets the accounts of what is deleted, and everyone where that is many at once.
    is_past = ended_at < func.now() - timedelta(days=days)
    some = select(table.id).where(is_past).limit(BATCH).with_for_update(skip_locked=True)
    gone = 0
    while count := db.session.execute(
        delete(table).where(table.id.in_(some)),
        execution_options={"synchronize_session": False},
    ).rowcount:  # type: ignore[attr-defined]
        db.session.commit()
        gone += count
    return gone
