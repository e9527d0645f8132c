"""``flask tokens …``: create, show, revoke and list one-time tokens as an operator."""

from __future__ import annotations

import click

from tokenservice.audit import events
from tokenservice.audit.operators import reason
from tokenservice.auth.commands import account, checked, reported
from tokenservice.auth.erasure import receipts
from tokenservice.extensions import db, tokens
from tokenservice.onetime.values import Party, Receipt
from tokenservice.ops.terminal import Commands, show_line
from tokenservice.token.creation import terms_of
from tokenservice.token.schemas import (
    STATES,
    CreateTokenRequest,
    ReceiptResponse,
    RevokeAllRequest,
)
from tokenservice.web.plaintext import escaped

NEW_TOKEN = CreateTokenRequest()
RECEIPT = ReceiptResponse()
PART = RevokeAllRequest()

one_time = Commands("tokens", help="One-time tokens: create, show, revoke, revoke-all, list.")


@one_time.command("create")
@click.argument("correo")
@click.option("--expires-in", type=click.IntRange(1), help="Life in seconds.")
@click.option("--purpose", help="The purpose that consume must name.")
@click.option("--audience", multiple=True, help="An account that may consume it; may be repeated.")
@click.option(
    "--allow-unregistered",
    is_flag=True,
    help="Accept an address without an account, for the account that registers it first.",
)
@click.option("--subject", help="The party it speaks for.")
@click.option("--require-subject", is_flag=True, help="Refuse a consume that does not name it.")
@reason
def create_token(
    correo: str,
    expires_in: int | None,
    purpose: str | None,
    audience: tuple[str, ...],
    allow_unregistered: bool,
    subject: str | None,
    require_subject: bool,
) -> None:
    """Create a token of the account CORREO, and print it, once."""
    owner = account(correo)
    if not owner.is_active:  # Redis remembers it for minutes only.
        raise click.ClickException("the account is disabled")
    asked = {
        "expires_in": expires_in,
        "purpose": purpose,
        "audience": list(audience),
        "allow_unregistered": allow_unregistered,
        "subject": subject,
        "require_subject": require_subject,
    }
    given = checked({name: value for name, value in asked.items() if value}, NEW_TOKEN)
    with reported():
        token = tokens.create(
            str(owner.id), life_seconds=given["expires_in"], terms=terms_of(given)
        )
    # A token whose event is refused is shown to nobody.
    events.record("token.created", token=token.id, account=owner.id, purpose=given.get("purpose"))
    db.session.commit()
    show_line({"token": token.text, "id": token.id, "expires_at": token.expires_at.isoformat()})


@one_time.command("show")
@click.argument("token_id", metavar="ID")
def show_token(token_id: str) -> None:
    """Show the state of the token ID."""
    with reported():
        show_receipt(tokens.receipt(token_id))


@one_time.command("revoke")
@click.argument("token_id", metavar="ID")
@reason
def revoke_token(token_id: str) -> None:
    """Revoke the token ID of any account."""
    with reported():
        owner = tokens.receipt(token_id).owner
        # Before the deed: without an event nothing is revoked.
        events.record("token.revoked", token=token_id, account=owner)
        tokens.revoke_id(token_id, Party(owner))
        db.session.commit()
        show_receipt(tokens.receipt(token_id))


@one_time.command("revoke-all")
@click.argument("correo")
@click.option("--purpose", help="Only those with this purpose.")
@click.option("--subject", help="Only those with this subject.")
@reason
def revoke_all(correo: str, purpose: str | None, subject: str | None) -> None:
    """Revoke all unused tokens of the account CORREO."""
    user = account(correo)
    asked = {"purpose": purpose, "subject": subject}
    part = checked({name: value for name, value in asked.items() if value is not None}, PART)
    # Names alone: a subject may be an address.
    events.record("token.revoked_all", account=user.id, only=sorted(part))
    with reported():
        tokens.revoke_all(str(user.id), **part)
    db.session.commit()
    click.echo(escaped(f"The unused tokens of {user.correo} are revoked."))


@one_time.command("list")
@click.argument("correo")
@click.option("--state", type=click.Choice(STATES))
@click.option("--purpose", default="")
def list_tokens(correo: str, state: str | None, purpose: str) -> None:
    """List the tokens of the account CORREO, newest first."""
    owner = str(account(correo).id)
    with reported():
        for receipt in receipts(owner, state or "", purpose):
            show_receipt(receipt)


def show_receipt(receipt: Receipt) -> None:
    show_line({"issued_by": receipt.owner, **RECEIPT.dump(receipt)})
