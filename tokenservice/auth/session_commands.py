"""``flask sessions …``: the table of sessions."""

from __future__ import annotations

import click
from sqlalchemy import case, func, not_

from tokenservice.audit.operators import reason
from tokenservice.auth import purging
from tokenservice.auth.models import Session
from tokenservice.auth.sessions import is_open
from tokenservice.ops.terminal import Commands

sessions = Commands("sessions", help="Sessions: purge.")


@sessions.command("purge")
@purging.days(30)
@reason
def purge(days: int) -> None:
    """Delete sessions that ended long ago. Only the role that owns the tables may."""
    ended_at = case((not_(is_open()), func.coalesce(Session.ended_at, Session.rotated_at)))
    click.echo(f"{purging.purge(Session, ended_at, days, 'sessions.purged')} sessions deleted.")
