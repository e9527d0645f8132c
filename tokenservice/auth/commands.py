"""``flask users …``: accounts, created one by one or in bulk."""

from __future__ import annotations

import json
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click
from marshmallow import Schema, ValidationError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from tokenservice.audit import events
from tokenservice.audit.events import Action
from tokenservice.audit.operators import reason
from tokenservice.auth import emails, erasure, seeding, sessions
from tokenservice.auth.models import User
from tokenservice.auth.new_passwords import PURPOSE, new_reset_token
from tokenservice.auth.passwords import passwords
from tokenservice.auth.schemas import AccountResponse, PasswordChange
from tokenservice.extensions import config, db, tokens
from tokenservice.onetime.errors import OneTimeError, OwnerDisabled, StoreUnavailable
from tokenservice.onetime.values import OFF_SECONDS
from tokenservice.ops.terminal import Commands, read_password, show_line
from tokenservice.telemetry.failures import kind
from tokenservice.web.plaintext import escaped
from tokenservice.web.problems import Problem
from tokenservice.web.texts import catalogue

PAGE = re.compile(r"https?://[^#\s]+")
ACCOUNT = AccountResponse()
NEW_PASSWORD = PasswordChange()
REPEAT = "Repeat the command."

users = Commands(
    "users",
    help="Accounts: create, seed, list, disable, enable, set-password, reset-token, export, erase.",
)
password_stdin = click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input, one line.",
)


def checked(given: dict[str, Any], schema: Schema = seeding.REGISTRATION) -> dict[str, Any]:
    """:raises click.ClickException: naming the mistakes of each field"""
    try:
        return dict(schema.load(given))
    except ValidationError as error:
        raise click.ClickException(seeding.mistakes_of(error.messages_dict)) from None


def account(correo: str) -> User:
    """:raises click.ClickException: there is no such account"""
    try:
        spelling = emails.canonical(correo, local_domains=config.local_domains)
    except ValueError:
        spelling = correo
    user = db.session.scalar(select(User).where(User.correo == spelling))
    if user is None:
        raise click.ClickException(f"no account has the address {correo}")
    return user


def show(user: User) -> None:
    show_line(ACCOUNT.dump(user))


@users.command("create")
@click.argument("correo")
@click.option("--nombre", required=True)
@password_stdin
@click.option("--if-missing", is_flag=True, help="Do nothing where the account exists.")
@reason
def create(correo: str, nombre: str, password_stdin: bool, if_missing: bool) -> None:
    """Open the account CORREO."""
    given = checked({"nombre": nombre, "correo": correo, "password": read_password(password_stdin)})
    is_new = seeding.insert_missing(seeding.hashed([given])) > 0
    if not is_new and not if_missing:
        raise click.ClickException(f"an account has the address {correo} already")
    opened = account(given["correo"])
    if is_new:
        events.record("account.created", account=opened.id)
    db.session.commit()
    show(opened)


@users.command("seed")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--count", type=click.IntRange(1, 10_000_000), help="Make up this many accounts.")
@password_stdin
@click.option("--dry-run", is_flag=True, help="Check everything and write nothing.")
@click.option(
    "--encoding",
    type=click.Choice([seeding.UTF_8, seeding.WINDOWS]),
    default=seeding.UTF_8,
    help="Of a FILE that does not begin with a byte order mark.",
)
@reason
def seed(
    file: IO[bytes] | None, count: int | None, password_stdin: bool, dry_run: bool, encoding: str
) -> None:
    """Open the accounts of FILE (CSV or JSON Lines: nombre, correo, password).

    A FILE of "-" is standard input. With --count, make up accounts instead,
    user-000001@example.com and so on, all with one password: the one read from standard input, or a
    random one that is shown at the end. Accounts that exist stay as they are. One bad line, and
    nothing is written. Until all passwords are hashed, the hashes are kept in a file that has no
    name, where temporary files are (TMPDIR).
    """
    if (file is None) == (count is None):
        raise click.UsageError("give either FILE or --count")
    password = ""
    if file:
        if password_stdin:
            raise click.UsageError("the passwords are in FILE: --password-stdin is for --count")
        seeds = seeding.SeedFile(file, encoding)
        total, lines = seeds.check(), seeds.entries()
    elif count:
        password = read_password(True) if password_stdin else secrets.token_urlsafe(12)
        checked({"nombre": "User", "correo": "user@example.com", "password": password})
        total, lines = count, seeding.made_up(count, password)
    if dry_run:
        click.echo(f"{total} accounts are well formed; nothing was written.")
        return
    # Hashing takes long. Until it is done, no transaction blocks other registrations, and the
    # hashes wait in a file because memory may not hold them.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        hidden = not sys.stderr.isatty()
        with click.progressbar(
            length=total, label="Hashing", file=sys.stderr, hidden=hidden
        ) as bar:
            for batch in seeding.batches(lines):
                kept.writelines(
                    json.dumps(row) + "\n" for row in seeding.hashed(seeding.missing(batch))
                )
                bar.update(len(batch))
        kept.seek(0)
        rows = seeding.batches(map(json.loads, kept))
        created = sum(map(seeding.insert_missing, rows))
    if created:
        events.record("accounts.seeded", created=created)
    db.session.commit()
    click.echo(f"{created} accounts created, {total - created} existed already.")
    if count and created and not password_stdin:
        click.echo(f"Their password: {password}")


@users.command("list")
def list_users() -> None:
    """List the accounts, oldest first to the millisecond, one JSON object a line."""
    for user in db.session.scalars(select(User).order_by(User.id).execution_options(yield_per=500)):
        show(user)


@users.command("disable")
@click.argument("correo")
@reason
def disable(correo: str) -> None:
    """Disable CORREO: no login, no JWT or key after 2 s, and its unused tokens are revoked."""
    user = account(correo)
    # Redis first: a worker may remember the account for minutes, and Redis then refuses what it
    # would create. Each part is done even if the other fails.
    failure = None
    try:
        tokens.revoke_all(str(user.id), disable=True)
    except StoreUnavailable as error:
        failure = f"Redis: {kind(error)}. The unused tokens of {user.correo} are not revoked"
    told = failure or f"The unused tokens of {user.correo} are revoked"
    set_active(user, False, f"{told}, and the account is not disabled.")
    if failure:
        raise click.ClickException(f"{failure}, but the account is disabled. {REPEAT}")
    show(user)


@users.command("enable")
@click.argument("correo")
@reason
def enable(correo: str) -> None:
    """Enable CORREO again. Its revoked tokens stay revoked."""
    user = account(correo)
    # Postgres first: were Redis to let the account create again and Postgres to fail, a worker that
    # remembers the account would create for one that is disabled.
    set_active(user, True, f"{user.correo} is not enabled.")
    try:
        tokens.enable(str(user.id))
    except StoreUnavailable as error:
        raise click.ClickException(
            f"Redis: {kind(error)}. {user.correo} is enabled, but may create no tokens until "
            f"{OFF_SECONDS // 60} minutes after it was disabled. {REPEAT}"
        ) from None
    show(user)


def set_active(user: User, is_active: bool, otherwise: str) -> None:
    """Write it to Postgres; report ``otherwise`` where that fails."""
    is_again = user.is_active == is_active
    if is_again:
        state = "enabled" if is_active else "disabled"
        click.echo(escaped(f"{user.correo} was {state} already."), err=True)
    elif is_active and erasure.is_erased(user):
        raise click.ClickException("this account was erased for good")
    user.is_active = is_active
    try:
        if not is_active:
            sessions.end_all("disabled", user.id)
        action: Action = "account.enabled" if is_active else "account.disabled"
        events.record(action, account=user.id, again=is_again)
        db.session.commit()
    except SQLAlchemyError:
        click.echo(escaped(f"{otherwise} {REPEAT}"), err=True)
        raise


@users.command("set-password")
@click.argument("correo")
@password_stdin
@reason
def set_password(correo: str, password_stdin: bool) -> None:
    """Set another password of CORREO. All its sessions end."""
    user = account(correo)
    given = checked(
        {
            "nombre": user.nombre,
            "correo": user.correo,
            "password": read_password(password_stdin),
        },
        NEW_PASSWORD,
    )
    user.password_hash = passwords.hash(given["password"])
    sessions.end_all("password", user.id)
    events.record("password.changed", account=user.id)
    db.session.commit()
    show(user)


def checked_page(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """:raises click.BadParameter: it is not the address of a page, without a fragment"""
    if url and not PAGE.fullmatch(url):
        raise click.BadParameter("is not https://… without #")
    return url


@users.command("reset-token")
@click.argument("correo")
@click.option("--page", callback=checked_page, help="Print a link to this page of yours instead.")
@reason
def reset_token(correo: str, page: str | None) -> None:
    """Print a token with which CORREO can set a password, once and within 30 minutes.

    In a link it stands behind the #, which browsers send to nobody.
    """
    user = account(correo)
    if not user.is_active:
        raise click.ClickException(f"the account {correo} is disabled")
    with reported():
        made = new_reset_token(user)
    events.record("token.created", token=made.id, account=user.id, purpose=PURPOSE)
    db.session.commit()
    secret = {"link": f"{page}#token={made.text}"} if page else {"token": made.text}
    show_line({**secret, "id": made.id, "expires_at": made.expires_at.isoformat()})


@users.command("export")
@click.argument("correo")
@reason
def export(correo: str) -> None:
    """Print what is stored of CORREO, without secrets: account, sessions, and tokens in Redis."""
    user = account(correo)
    with reported():
        found = erasure.export(user)
    events.record("account.exported", account=user.id)
    db.session.commit()
    show_line(found)


@users.command("erase")
@click.argument("correo")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reason
def erase(correo: str, yes: bool) -> None:
    """Erase CORREO for good: name, address, sessions, unused tokens. The id stays."""
    user = account(correo)
    if not yes:
        click.confirm(escaped(f"Erase {user.correo} for good?"), abort=True)
    with reported():
        erasure.erase(user.id)
    show_line({"erased": str(user.id)})


@contextmanager
def reported() -> Iterator[None]:
    """Report a refusal in the words of the API.

    :raises click.ClickException: the engine or the request was refused
    """
    try:
        yield
    except Problem as refusal:
        raise click.ClickException(seeding.mistakes_of(refusal.errors or {})) from None
    except OwnerDisabled:
        raise click.ClickException("the account is disabled") from None
    except OneTimeError as error:
        detail = catalogue.problems[error.code].en.detail
        raise click.ClickException(f"{error.code}: {detail}") from None
