"""``flask users …``: accounts, created one by one or in bulk."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from marshmallow import EXCLUDE, Schema, ValidationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from tokenservice.auth import emails
from tokenservice.auth.models import User, uuid7
from tokenservice.auth.passwords import passwords
from tokenservice.auth.schemas import (
    AccountFields,
    AccountResponse,
    PasswordChange,
    RegisterRequest,
)
from tokenservice.extensions import db
from tokenservice.ops.terminal import Commands, show_line
from tokenservice.web import strictjson

BATCH = 200
SHOWN_MISTAKES = 20
ACCOUNT = AccountResponse()
REGISTRATION = RegisterRequest(unknown=EXCLUDE)
NEW_PASSWORD = PasswordChange()
CHECKED = AccountFields(unknown=EXCLUDE)

users = Commands("users", help="Accounts: create, seed, list, disable, enable, set-password.")
password_stdin = click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input, one line.",
)


def read_password(from_stdin: bool) -> str:
    """Read a password, which is never a process argument."""
    if from_stdin:
        try:
            return sys.stdin.readline().rstrip("\n")
        except UnicodeDecodeError:
            raise click.ClickException("standard input is not in UTF-8") from None
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def checked(given: dict[str, Any], schema: Schema = REGISTRATION) -> dict[str, Any]:
    """:raises click.ClickException: naming the mistakes of each field"""
    try:
        return dict(schema.load(given))
    except ValidationError as error:
        raise click.ClickException(mistakes_of(error)) from None


def mistakes_of(error: ValidationError) -> str:
    return "; ".join(
        f"{field}: {' '.join(why) if isinstance(why, list) else why}"
        for field, why in error.messages_dict.items()
    )


def account(correo: str) -> User:
    """:raises click.ClickException: there is no such account"""
    try:
        spelling = emails.canonical(correo)
    except ValueError:
        spelling = correo
    user = None
    with contextlib.suppress(UnicodeEncodeError):  # No account has an address that is not text.
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
def create(correo: str, nombre: str, password_stdin: bool, if_missing: bool) -> None:
    """Open the account CORREO."""
    given = checked({"nombre": nombre, "correo": correo, "password": read_password(password_stdin)})
    if not insert_missing(hashed([given])) and not if_missing:
        raise click.ClickException(f"an account has the address {correo} already")
    opened = account(given["correo"])
    db.session.commit()
    show(opened)


@users.command("seed")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False
)
@click.option("--count", type=click.IntRange(1, 10_000_000), help="Make up this many accounts.")
@password_stdin
@click.option("--dry-run", is_flag=True, help="Check everything and write nothing.")
def seed(file: Path | None, count: int | None, password_stdin: bool, dry_run: bool) -> None:
    """Open the accounts of FILE (CSV or JSON Lines: nombre, correo, password).

    With --count, make up accounts instead, user-000001@example.com and so on, all with one
    password: the one read from standard input, or a random one that is shown at the end.
    Accounts that exist stay as they are. One bad line, and nothing is written. Until all passwords
    are hashed, the hashes are kept in a file that has no name, where temporary files are (TMPDIR).
    """
    if (file is None) == (count is None):
        raise click.UsageError("give either FILE or --count")
    password = ""
    if file:
        total, lines = check_lines(file), entries(file)
    elif count:
        password = read_password(True) if password_stdin else secrets.token_urlsafe(12)
        checked({"nombre": "User", "correo": "user@example.com", "password": password})
        total, lines = count, made_up(count, password)
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
            for batch in batches(lines):
                kept.writelines(json.dumps(row) + "\n" for row in hashed(missing(batch)))
                bar.update(len(batch))
        kept.seek(0)
        created = sum(insert_missing(rows) for rows in batches(map(json.loads, kept)))
    db.session.commit()
    click.echo(f"{created} accounts created, {total - created} existed already.")
    if count and created and not password_stdin:
        click.echo(f"Their password: {password}")


def made_up(count: int, password: str) -> Iterator[dict[str, str]]:
    for number in range(1, count + 1):
        yield {
            "nombre": f"User {number}",
            "correo": f"user-{number:06}@example.com",
            "password": password,
        }


def numbered(file: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Read FILE line by line: the number of each line, and its values or its error.

    :raises click.ClickException: the rest is unreadable
    """
    number = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            if file.suffix == ".csv":
                reader = csv.DictReader(text, restkey="")
                for row in reader:
                    number = reader.line_num
                    yield number, {k: v for k, v in row.items() if k and v is not None}
                return
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, json_object(line)
    except UnicodeDecodeError:
        raise click.ClickException("the file is not in UTF-8; nothing was written.") from None
    except csv.Error as error:
        raise click.ClickException(f"line {number + 1}: {error}; nothing was written.") from None


def json_object(line: str) -> dict[str, Any] | ValueError:
    try:
        value = strictjson.loads(line)
    except ValueError as error:
        return error
    return value if isinstance(value, dict) else ValueError("not an object")


def check_lines(file: Path) -> int:
    """Check every line before anything is written, and count them.

    :raises click.ClickException: naming the bad lines by their numbers
    """
    total, mistakes = 0, []
    for number, values in numbered(file):
        total += 1
        if isinstance(values, ValueError):
            mistakes.append(f"line {number}: {values}")
            continue
        try:
            REGISTRATION.load(values)
        except ValidationError as error:
            mistakes.append(f"line {number}: {mistakes_of(error)}")
    if mistakes:
        more = len(mistakes) - SHOWN_MISTAKES
        shown = mistakes[:SHOWN_MISTAKES] + ([f"… and {more} more"] if more > 0 else [])
        raise click.ClickException("nothing was written.\n" + "\n".join(shown))
    return total


def entries(file: Path) -> Iterator[dict[str, str]]:
    for number, values in numbered(file):
        if isinstance(values, ValueError):
            raise click.ClickException(f"line {number} has changed since it was checked")
        yield dict(CHECKED.load(values))


def batches(lines: Iterable[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, BATCH)):
        yield batch


def missing(batch: list[dict[str, str]]) -> list[dict[str, str]]:
    """The entries of ``batch`` without an account."""
    wanted = {given["correo"]: given for given in batch}
    existing = set(db.session.scalars(select(User.correo).where(User.correo.in_(wanted))))
    db.session.rollback()  # Hashing comes next; no lock may last that long.
    return [given for correo, given in wanted.items() if correo not in existing]


def hashed(batch: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of ``batch``, hashed on all cores."""
    # Looked up here: the threads have no app context.
    hash_one = passwords.hash_unqueued
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        hashes = list(cores.map(hash_one, (given["password"] for given in batch)))
    return [
        {"nombre": given["nombre"], "correo": given["correo"], "password_hash": password_hash}
        for given, password_hash in zip(batch, hashes, strict=True)
    ]


def insert_missing(rows: list[dict[str, str]]) -> int:
    """Insert the rows without an account; count them.

    The caller commits: a seed is written whole or not at all.
    """
    values = [{"id": uuid7(), "is_active": True, **row} for row in rows]
    statement = insert(User).values(values).on_conflict_do_nothing(index_elements=["correo"])
    return len(db.session.scalars(statement.returning(User.id)).all())


@users.command("list")
def list_users() -> None:
    """List the accounts, oldest first to the millisecond, one JSON object a line."""
    for user in db.session.scalars(select(User).order_by(User.id).execution_options(yield_per=500)):
        show(user)


@users.command("disable")
@click.argument("correo")
def disable(correo: str) -> None:
    """Disable CORREO: no login, and its JWTs stop within two seconds."""
    set_active(correo, False)


@users.command("enable")
@click.argument("correo")
def enable(correo: str) -> None:
    """Enable CORREO again."""
    set_active(correo, True)


def set_active(correo: str, is_active: bool) -> None:
    user = account(correo)
    user.is_active = is_active
    db.session.commit()
    show(user)


@users.command("set-password")
@click.argument("correo")
@password_stdin
def set_password(correo: str, password_stdin: bool) -> None:
    """Set another password of CORREO."""
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
    db.session.commit()
    show(user)
