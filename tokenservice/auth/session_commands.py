"""``flask sessions …``: the table of sessions."""

from __future__ import annotations

from datetime import timedelta

import click
from sqlalchemy import and_, delete, func, not_, select

from tokenservice.auth.models import Session
from tokenservice.auth.sessions import is_open
from tokenservice.extensions import db
from tokenservice.ops.terminal import Commands

BATCH = 500

sessions = Commands("sessions", help="Sessions: purge.")


@sessions.command("purge")
@click.option(
    "--days", type=click.IntRange(0, 3660), default=30, help="How long ended ones stay (30)."
)
def purge(days: int) -> None:
    """Delete sessions that ended long ago. Only the role that owns the tables may."""
    ended_at = func.coalesce(Session.ended_at, Session.rotated_at)
    is_past = and_(not_(is_open()), ended_at < func.now() - timedelta(days=days))
    # A worker forgets the accounts of what is deleted, and everyone where that is many at once.
    some = select(Session.id).where(is_past).limit(BATCH).with_for_update(skip_locked=True)
    gone = 0
    while count := db.session.execute(
        delete(Session).where(Session.id.in_(some)),
        execution_options={"synchronize_session": False},
    ).rowcount:  # type: ignore[attr-defined]
        db.session.commit()
        gone += count
    click.echo(f"{gone} sessions deleted.")
