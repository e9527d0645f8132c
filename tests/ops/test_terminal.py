"""``flask`` commands fail with one clear line and exit code 1, whatever is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import URL, make_url

import dev
from config import Config
from tests.stage.commands import complaint, flask, refusal
from tests.stage.people import PASSWORD, Person, new_correo
from tokenservice.ops.terminal import show_line

pytestmark = pytest.mark.slow
SECRET = "qK7vR2mX9tLp"
UNRESOLVED = "unresolved name. Check database_url, or db_host and db_port."
NEEDS_POSTGRES = {
    "list": ("users", "list"),
    "create": ("users", "create", "new@example.com", "--nombre", "Ana", "--password-stdin"),
    "seed": ("users", "seed", "--count", "1"),
    "disable": ("users", "disable", "ana@example.com"),
    "set-password": ("users", "set-password", "ana@example.com", "--password-stdin"),
    "tokens create": ("tokens", "create", "ana@example.com"),
    "tokens list": ("tokens", "list", "ana@example.com"),
    "upgrade": ("db", "upgrade"),
    "current": ("db", "current"),
}


@pytest.fixture
def unheard() -> Iterator[int]:
    """A port on which nothing listens, and that no other process can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def address(postgres: dev.Postgres) -> URL:
    return make_url(postgres.url)


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.mark.parametrize("command", NEEDS_POSTGRES)
def test_postgres_away_is_one_line(
    make_app: Callable[..., Flask], unheard: int, command: str
) -> None:
    """It was a traceback of 167 lines. Guard: ``except SQLAlchemyError`` in ``Commands``."""
    away = make_app(database_url=f"postgresql://ana:{SECRET}@127.0.0.1:{unheard}/tokens")
    runner = away.test_cli_runner()
    said = refusal(runner.invoke(args=NEEDS_POSTGRES[command], input=PASSWORD))
    assert said == "Error: Postgres: refused. Check database_url, or db_host and db_port.\n"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"username": "nobody"},
            "wrong user or password. Check database_url, or db_user and db_password.",
        ),
        ({"database": "nothing"}, "missing database. Check database_url, or db_name."),
        ({"host": "postgres.invalid"}, UNRESOLVED),
        ({"query": {"sslmode": "require"}}, "TLS mismatch. Check the options of database_url."),
    ],
    ids=["role", "database", "name", "TLS"],
)
def test_a_failure_of_postgres_is_told_by_its_kind(
    make_app: Callable[..., Flask], address: URL, changed: dict[str, str], line: str
) -> None:
    """Without a word of libpq's, which may hold a piece of a password."""
    login = {} if "database" in changed else {"password": SECRET}
    given = address.set(**login, **changed)  # type: ignore[arg-type]
    runner = make_app(database_url=shown(given)).test_cli_runner()
    said = refusal(runner.invoke(args=["users", "list"]))
    assert said == f"Error: Postgres: {line}\n"
    assert SECRET not in said


@pytest.fixture
def empty(address: URL) -> Iterator[URL]:
    """A database without a table."""
    name = f"empty_{secrets.token_hex(4)}"
    with contextlib.closing(psycopg2.connect(shown(address))) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        yield address.set(database=name)


def test_a_database_without_tables_is_one_line(config: Config, tmp_path: Path, empty: URL) -> None:
    settings = dataclasses.replace(config, database_url=shown(empty))
    line = complaint(flask(settings, "users", "list", folder=tmp_path))
    assert line == 'Postgres: missing table. Run "flask db upgrade".'


def test_a_read_only_database_is_one_line(config: Config, tmp_path: Path, empty: URL) -> None:
    """For the migration too."""
    with contextlib.closing(psycopg2.connect(shown(empty))) as connection:
        connection.autocommit = True
        connection.cursor().execute(
            f"ALTER DATABASE {empty.database} SET default_transaction_read_only = on"
        )
    settings = dataclasses.replace(config, database_url=shown(empty))
    line = complaint(flask(settings, "db", "upgrade", folder=tmp_path))
    assert line == "Postgres: read-only. Check database_url, or db_host and db_port."


@pytest.mark.parametrize(
    "words", [("create", "{correo}"), ("list", "{correo}"), ("show", "0" * 18)]
)
def test_redis_away_is_one_line(
    make_app: Callable[..., Flask], unheard: int, person: Person, words: tuple[str, ...]
) -> None:
    away = make_app(redis_url=f"redis://:{SECRET}@127.0.0.1:{unheard}/0")
    given = [word.format(correo=person.correo) for word in words]
    line = refusal(away.test_cli_runner().invoke(args=["tokens", *given]))
    assert line.startswith("Error: store_unavailable: ")
    assert line.count("\n") == 1
    assert SECRET not in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("users", "create", "a@example.com", "--nombre", b"\xcd\xf1igo"), "'--nombre'"),
        (("users", "create", b"\xcd@example.com", "--nombre", "Ana"), "'CORREO'"),
        (("users", "disable", b"\xcd@example.com"), "'CORREO'"),
        (("tokens", "list", "{correo}", "--purpose", b"\xf1"), "'--purpose'"),
        (("tokens", "create", "{correo}", "--subject", b"\xf1"), "'--subject'"),
        (("tokens", "create", "{correo}", "--audience", b"\xf1@example.com"), "'--audience'"),
        (("tokens", "show", b"\xf1"), "'ID'"),
    ],
    ids=lambda words: " ".join(map(str, words[:2])) if isinstance(words, tuple) else words,
)
def test_an_argument_in_latin_1_is_named(
    app: Flask, person: Person, words: tuple[str | bytes, ...], named: str
) -> None:
    """Guard: ``Command.invoke``."""
    given = [os.fsdecode(word).format(correo=person.correo) for word in words]
    said = refusal(app.test_cli_runner().invoke(args=given))
    assert said == f"Error: {named} is not in UTF-8\n"


def test_an_argument_in_latin_1_is_named_by_the_real_command(
    config: Config, tmp_path: Path
) -> None:
    said = complaint(flask(config, "tokens", "show", b"\xf1", folder=tmp_path))
    assert said == "'ID' is not in UTF-8"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_output_is_json_on_a_terminal_of_another_encoding(
    config: Config, tmp_path: Path, app: Flask, encoding: str
) -> None:
    """A name that the terminal cannot show was a traceback."""
    correo = new_correo()
    words = ("users", "create", correo, "--nombre", "Íñigo 山", "--password-stdin")
    done = flask(config, *words, folder=tmp_path, text=PASSWORD.encode(), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nombre"] == "Íñigo 山"


def test_a_closed_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``>&-``."""
    monkeypatch.setattr(sys, "stdout", None)
    show_line({"nombre": "Íñigo"})
