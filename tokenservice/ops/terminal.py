"""Output of commands: JSON lines of plain text, whatever the database holds."""

from __future__ import annotations

import errno
import functools
import importlib
import json
import sys
from typing import Any, cast

import click
from flask import Flask
from flask.cli import AppGroup
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.local import LocalProxy

from tokenservice.extensions import db
from tokenservice.postgres.breaker import is_outage
from tokenservice.postgres.schema import MIGRATIONS
from tokenservice.telemetry.failures import kind
from tokenservice.web.plaintext import escaped

LOGIN = "Check database_url, or db_user and db_password"
#: What to do about a kind of failure that is no outage, or none of the address.
REMEDIES = {
    "missing table": 'Run "flask db upgrade"',
    "no permission": LOGIN,
    "wrong user or password": LOGIN,
    "unknown role": LOGIN,
    "not allowed by pg_hba.conf": LOGIN,
    "missing database": "Check database_url, or db_name",
    "TLS mismatch": "Check the options of database_url",
}
ADDRESS = "Check database_url, or db_host and db_port"


def demand_text(ctx: click.Context) -> None:
    """:raises click.ClickException: a parameter has bytes that are no text

    Python passes them on as lone surrogates.
    """
    for parameter in ctx.command.params:
        given = ctx.params.get(parameter.name or "")
        for text in given if isinstance(given, tuple) else (given,):
            try:
                str(text).encode()
            except UnicodeEncodeError:
                hint = parameter.get_error_hint(ctx)
                raise click.ClickException(f"{hint} is not in UTF-8") from None


class Command(click.Command):
    """A command that takes text alone."""

    def invoke(self, ctx: click.Context) -> Any:
        demand_text(ctx)
        return super().invoke(ctx)


class Commands(AppGroup):
    """A group of commands that fail with one line, which may quote their input."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            demand_text(ctx)
            return super().invoke(ctx)
        except click.ClickException as error:
            lines = error.message.split("\n")
            error.message = "\n".join(map(escaped, lines))  # type: ignore[misc]
            raise
        except SQLAlchemyError as error:
            name = kind(error)
            if not is_outage(error) and name not in REMEDIES:
                raise
            remedy = REMEDIES.get(name, ADDRESS)
            raise click.ClickException(f"Postgres: {name}. {remedy}.") from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # click ends the command, as others end in a pipe.
                raise
            raise click.ClickException(error.strerror or type(error).__name__) from None


def read_password(from_stdin: bool) -> str:
    """Read a password, which is never a process argument."""
    if not from_stdin:
        try:
            return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
        except click.Abort:
            if sys.stdin and sys.stdin.isatty():
                raise
            message = "there is no terminal to ask for the password: use --password-stdin"
            raise click.ClickException(message) from None
    if sys.stdin is None:
        raise click.ClickException("standard input is closed")
    line = sys.stdin.buffer.readline()
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise click.ClickException("standard input is not in UTF-8")
    return text.rstrip("\r\n")


def show_line(value: dict[str, Any]) -> None:
    line = escaped(json.dumps(value, ensure_ascii=False))
    try:
        line.encode(getattr(sys.stdout, "encoding", "utf-8"))  # It may be closed.
    except UnicodeEncodeError:
        line = json.dumps(value)
    click.echo(line)


def init_app(app: Flask) -> None:
    """Add ``flask db``, with Flask-Migrate's commands, which fail as our own do.

    They load Alembic, 11 MB that a server has no use for. So they are loaded when a command, or the
    extension, is used.
    """

    @functools.cache
    def load() -> tuple[object, Commands]:
        importlib.import_module("tokenservice.postgres.migrations").Migrations(app, db, MIGRATIONS)
        theirs = app.cli.commands["db"]
        assert isinstance(theirs, click.Group)
        ours = Commands(
            "db",
            commands=theirs.commands,
            params=theirs.params,
            callback=theirs.callback,
            help=theirs.help,
        )
        app.cli.add_command(ours)
        return app.extensions["migrate"], ours

    app.extensions["migrate"] = LocalProxy(lambda: load()[0])
    app.cli.add_command(cast(Commands, LocalProxy(lambda: load()[1])), "db")
