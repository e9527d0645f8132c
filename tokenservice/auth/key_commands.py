"""``flask keys …``: service keys of any account."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import func, select

from tokenservice.audit import events
from tokenservice.audit.operators import reason
from tokenservice.auth import purging
from tokenservice.auth.commands import account, checked
from tokenservice.auth.keys import KEY, end_key, open_key
from tokenservice.auth.models import ServiceKey
from tokenservice.auth.rights import SCOPES
from tokenservice.auth.schemas import KeyLimits, KeyRequest, NewKeyResponse
from tokenservice.extensions import db
from tokenservice.ops.terminal import Commands, show_line
from tokenservice.web.problems import Problem
from tokenservice.web.texts import catalogue

REQUEST, NEW, LIMITS = KeyRequest(), NewKeyResponse(), KeyLimits()

keys = Commands("keys", help="Service keys: create, list, limit, revoke, purge.")


@keys.command("create")
@click.argument("correo")
@click.option("--name", required=True, help="What it is for.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Repeatable."
)
@click.option("--purpose", "purposes", multiple=True, help="The only purposes, as pay or ws.*")
@click.option("--cidr", "cidrs", multiple=True, help="The only networks, as 192.0.2.0/24.")
@click.option("--expires-in", type=click.IntRange(1), help="Life in seconds.")
@reason
def create_key(correo: str, **asked: Any) -> None:
    """Make a key of the account CORREO, and print it, once."""
    owner = account(correo)
    lists = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asked.items()
    }
    given = checked({name: value for name, value in lists.items() if value}, REQUEST)
    try:
        key = open_key(str(owner.id), given)
    except Problem as refusal:
        if refusal.code == "access_token_invalid":
            raise click.ClickException(f"the account {correo} is disabled") from None
        raise click.ClickException(catalogue.problems[refusal.code].en.detail) from None
    show_line(NEW.dump(key))


@keys.command("list")
@click.argument("correo")
def list_keys(correo: str) -> None:
    """List all keys of the account CORREO, oldest first, one JSON object a line."""
    of_account = select(ServiceKey).where(ServiceKey.user_id == account(correo).id)
    for key in db.session.scalars(of_account.order_by(ServiceKey.created_at, ServiceKey.id)):
        show(key)


@keys.command("limit")
@click.argument("key_id", metavar="ID")
@click.option("--create", help='As "1000 per minute".')
@click.option("--validate", help="The same for consume, validate and reservations.")
@reason
def limit_key(key_id: str, **rates: str | None) -> None:
    """Count calls of the key ID under limits of its own, and no longer under its account's.

    They may be above those of the account. What is left out counts for the account; without any
    option, all does.
    """
    given = checked({name: rate for name, rate in rates.items() if rate is not None}, LIMITS)
    key = db.session.get(ServiceKey, key_id)
    if key is None:
        raise click.ClickException(f"no key has the id {key_id}")
    key.limit_create, key.limit_validate = given.get("create"), given.get("validate")
    key.own_quota = bool(given)
    events.record("key.changed", key=key.id, account=key.user_id, limits=key.limits or "none")
    db.session.commit()
    show(key)


@keys.command("purge")
@purging.days(90)
@reason
def purge_keys(days: int) -> None:
    """Delete keys that ended long ago. Only the role that owns the tables may.

    Receipts and the log go on naming their ids.
    """
    ended_at = func.least(ServiceKey.revoked_at, ServiceKey.expires_at)  # Of those that are set.
    click.echo(f"{purging.purge(ServiceKey, ended_at, days, 'keys.purged')} keys deleted.")


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@reason
def revoke_key(key_id: str) -> None:
    """Revoke the key ID of any account: it is out within two seconds."""
    if not end_key(key_id):
        raise click.ClickException(f"no key has the id {key_id}")
    key = db.session.get(ServiceKey, key_id)
    if key:
        show(key)


def show(key: ServiceKey) -> None:
    ended = key.revoked_at and key.revoked_at.isoformat()
    show_line({**KEY.dump(key), "user_id": str(key.user_id), "revoked_at": ended})
