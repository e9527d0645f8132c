"""``flask audit``: read the audit trail, and purge it."""

from __future__ import annotations

import functools
import heapq
import operator
import re
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import and_, delete, func, select, update

from tokenservice.audit import events, reading, showing
from tokenservice.audit.models import AuditEvent
from tokenservice.audit.operators import reason
from tokenservice.auth import purging
from tokenservice.auth.commands import account
from tokenservice.auth.erasure import is_erased
from tokenservice.auth.models import User
from tokenservice.extensions import config, db
from tokenservice.ops.terminal import Commands, show_line
from tokenservice.web.plaintext import escaped

AGO = re.compile(r"([0-9]{1,6})([smhdw])")
#: ``--trail`` without a file.
OWN = ""
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: What the trigger of migration 0006 asks of a purge, in each transaction.
PURGING = select(func.set_config("token_service.audit_purge", "on", True))


def time_of(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """A time, or so long ago; UTC where no zone is named.

    :raises click.BadParameter: it is neither
    """
    if not text:
        return None
    try:
        if ago := AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter("is not 30m, 1h, 7d or 2026-11-27T14:05") from None


def lines_of(trail: str | None) -> AbstractContextManager[Iterable[str]]:
    """The lines of a file, of standard input (``-``), or of the trail of this service.

    :raises click.ClickException: it cannot be read, or this service has no file
    """
    if trail is None:
        return nullcontext(())
    path = config.audit_path if trail == OWN else trail
    if not path:
        raise click.ClickException("audit_path is not set: name the file, or - for standard input")
    try:
        return click.open_file(path, encoding="utf-8", errors="replace")
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def account_of(text: str | None) -> str:
    """The id of an account, by its address or as it is, which for an erased one leads to nobody.

    :raises click.ClickException: there is no such account
    """
    try:
        return str(uuid.UUID(text)) if text else ""
    except ValueError:
        return str(account(text or "").id)


@functools.lru_cache(maxsize=10_000)
def correo_of(account_id: str) -> str:
    """The address of an account as it is now, or "" where there is none."""
    try:
        user = db.session.get(User, uuid.UUID(account_id))
    except ValueError:  # The service's own tokens.
        return ""
    return user.correo if user and not is_erased(user) else ""


@click.group("audit", cls=Commands, invoke_without_command=True)
@click.option("--token", metavar="ID", default="", help="About this token.")
@click.option("--account", "named", metavar="CORREO", help="By or about this account, or id.")
@click.option("--key", metavar="ID", default="", help="By or about this service key.")
@click.option("--since", metavar="TIME", callback=time_of, help="As 30m, 1h, 7d or 2026-11-27.")
@click.option("--until", metavar="TIME", callback=time_of, help="Before this time.")
@click.option(
    "--trail",
    is_flag=False,
    flag_value=OWN,
    metavar="FILE",
    help="Also the calls in this file, - for standard input; alone, in audit_path.",
)
@click.option("--names", is_flag=True, help="Show the addresses of accounts, looked up now.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
@with_appcontext
def audit(
    context: click.Context,
    /,
    named: str | None,
    trail: str | None,
    names: bool,
    is_json: bool,
    **asked: Any,
) -> None:
    """Audit trail: who changed what, from where and why, newest last; purge it."""
    if context.invoked_subcommand:
        return
    question = reading.Question(account=account_of(named), **asked)
    known = correo_of if names else None
    with lines_of(trail) as lines:
        if not is_json:
            click.echo(showing.columns(*showing.HEAD))
        found = reading.stored(question), reading.told(question, lines)
        for event in heapq.merge(*found, key=operator.attrgetter("at")):
            if is_json:
                show_line(showing.as_json(event, known))
            else:
                click.echo(escaped(showing.as_line(event, known)))


@audit.command("purge")
@reason
def purge() -> None:
    """Delete events older than audit_days, and addresses older than audit_address_days.

    Only the role that owns the tables may.
    """
    now = datetime.now(UTC)
    oldest_event = now - timedelta(days=config.audit_days)
    oldest_address = now - timedelta(days=config.audit_address_days)
    events.record(
        "audit.purged",
        events_before=oldest_event.isoformat(),
        addresses_before=oldest_address.isoformat(),
    )
    deleted = purging.in_batches(
        delete(AuditEvent),
        AuditEvent.id,
        AuditEvent.at < oldest_event,
        PURGING,
    )
    addresses = purging.in_batches(
        update(AuditEvent).values(address=None),
        AuditEvent.id,
        and_(AuditEvent.at < oldest_address, AuditEvent.address.is_not(None)),
        PURGING,
    )
    click.echo(f"{deleted} events deleted, and {addresses} addresses.")
