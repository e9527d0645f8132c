"""``flask keys …``: service keys of any account."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import select

from tokenservice.auth.commands import account, checked
from tokenservice.auth.keys import KEY, end_key, open_key
from tokenservice.auth.models import ServiceKey
from tokenservice.auth.rights import SCOPES
from tokenservice.auth.schemas import KeyRequest, NewKeyResponse
from tokenservice.extensions import db
from tokenservice.ops.terminal import Commands, show_line
from tokenservice.web.problems import Problem
from tokenservice.web.texts import catalogue

REQUEST, NEW = KeyRequest(), NewKeyResponse()

keys = Commands("keys", help="Service keys: create, list, revoke.")


@keys.command("create")
@click.argument("correo")
@click.option("--name", required=True, help="What it is for.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Repeatable."
)
@click.option("--purpose", "purposes", multiple=True, help="The only purposes, as pay or ws.*")
@click.option("--cidr", "cidrs", multiple=True, help="The only networks, as 192.0.2.0/24.")
@click.option("--expires-in", type=click.IntRange(1), help="Life in seconds.")
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


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
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
