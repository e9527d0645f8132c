"""Accounts in bulk: the files that people have, read whole before the first account is written."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import click
from marshmallow import EXCLUDE, ValidationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from tokenservice.auth.models import User, uuid7
from tokenservice.auth.passwords import passwords
from tokenservice.auth.schemas import AccountFields, NewAccount
from tokenservice.extensions import db
from tokenservice.web import strictjson

BATCH = 200
SHOWN_MISTAKES = 20
LONGEST_HEADER = 200
REGISTRATION = NewAccount(unknown=EXCLUDE)
CHECKED = AccountFields(unknown=EXCLUDE)
COLUMNS = ("nombre", "correo", "password")
SEPARATORS = ",;\t"
EXPECTED = "expected nombre, correo and password, with commas, semicolons or tabs between them"
UTF_8, WINDOWS = "utf-8", "windows-1252"
#: Byte order marks, which name the encoding of a file.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Entry = dict[str, Any]


class SeedFile:
    """A CSV or JSON Lines file, told apart by its first character.

    :param file: read more than once; a pipe is kept in memory, because a copy on a disk would hold
        passwords
    :param encoding: of a file without a byte order mark
    """

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file if file.seekable() else io.BytesIO(file.read())
        self._start = self._file.tell()
        head = self._file.read(3)
        marked = (name for mark, name in MARKS.items() if head.startswith(mark))
        self._encoding = next(marked, encoding)

    def check(self) -> int:
        """Check every line before anything is written, and count them.

        :raises click.ClickException: naming the bad lines by their numbers
        """
        mistakes = []
        seen: dict[str, int] = {}
        total = 0
        for number, values in self._numbered():
            total += 1
            if isinstance(values, ValueError):
                mistakes.append(f"line {number}: {values}")
                continue
            try:
                given = REGISTRATION.load(values)
            except ValidationError as error:
                mistakes.append(f"line {number}: {mistakes_of(error.messages_dict)}")
                given = error.valid_data
            correo = given.get("correo")
            if correo and (first := seen.setdefault(correo, number)) != number:
                mistakes.append(f"line {number}: correo: {correo} stands on line {first} too.")
        if mistakes:
            more = len(mistakes) - SHOWN_MISTAKES
            shown = mistakes[:SHOWN_MISTAKES] + ([f"… and {more} more"] if more > 0 else [])
            raise click.ClickException("nothing was written.\n" + "\n".join(shown))
        return total

    def entries(self) -> Iterator[Entry]:
        for number, values in self._numbered():
            if isinstance(values, ValueError):
                raise click.ClickException(f"line {number} has changed since it was checked")
            yield dict(CHECKED.load(values))

    def _numbered(self) -> Iterator[tuple[int, Entry | ValueError]]:
        """Read line by line: the number of each line, and its values or its error.

        :raises click.ClickException: the rest is unreadable
        """
        self._file.seek(self._start)
        text = io.TextIOWrapper(self._file, self._encoding, newline="")
        number = 0
        try:
            for number, values in read(enumerate(map(checked_line, text), 1)):
                yield number, values
        except UnicodeError:
            raise click.ClickException(self._unreadable()) from None
        except csv.Error as error:
            raise click.ClickException(
                f"line {number + 1}: {error}; nothing was written."
            ) from None
        finally:
            with contextlib.suppress(ValueError):  # The command ended, and has closed the file.
                text.detach()  # It would close the file.

    def _unreadable(self) -> str:
        name = self._encoding.removesuffix("-sig")
        offer = f" Perhaps it is in {WINDOWS.upper()}: --encoding {WINDOWS}." * (name == UTF_8)
        return f"the file is not in {name.upper()}; nothing was written.{offer}"


def checked_line(line: str) -> str:
    """:raises UnicodeError: it holds NUL, as every text in UTF-16 does when it is read as UTF-8"""
    if "\0" in line:
        raise UnicodeError
    return line


def read(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Entry | ValueError]]:
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    number, head = first
    if head.lstrip().startswith(("{", "[")):
        for number, line in itertools.chain([first], lines):
            if line.strip():
                yield number, json_object(line)
    else:
        yield from rows(number, head, (line for _, line in lines))


def json_object(line: str) -> Entry | ValueError:
    try:
        value = strictjson.loads(line)
    except ValueError as error:
        return error
    return value if isinstance(value, dict) else ValueError("not an object")


def rows(number: int, head: str, rest: Iterable[str]) -> Iterator[tuple[int, Entry | ValueError]]:
    """:param number: the line of ``head``, the header"""
    names, form = header(head)
    reader = csv.reader(rest, **form)
    for cells in reader:
        values = dict(zip(names, cells, strict=False))
        password = values.get("password", "")
        given: Entry | ValueError = {name: values[name] for name in COLUMNS if name in values}
        if not any(map(str.strip, cells)):
            continue  # Spreadsheets write separators below the last row.
        if any(map(str.strip, cells[len(names) :])):
            given = ValueError("more cells than the header has; quote a cell with a separator")
        elif password != password.strip():
            given = ValueError("password: a blank before or after it; JSON Lines can hold one")
        yield number + reader.line_num, given


def header(head: str) -> tuple[list[str], dict[str, Any]]:
    """The names of the columns, and how a reader takes the rows apart.

    :raises click.ClickException: it lacks a column, or has one twice
    """
    for separator in SEPARATORS:
        spaced = all(cell.startswith(" ") for cell in cells_of(head, delimiter=separator)[1:])
        form = {"delimiter": separator, "skipinitialspace": spaced}
        names = [cell.strip().casefold() for cell in cells_of(head, **form)]
        if all(names.count(column) == 1 for column in COLUMNS):
            return names, form
    found = max((cells_of(head, delimiter=separator) for separator in SEPARATORS), key=len)
    shown = ", ".join(map(str.strip, found))
    # Without a header the first line holds a password.
    is_safe = len(found) > 1 and not re.search(r"[@\d]", shown) and len(shown) < LONGEST_HEADER
    named = f'the header is "{shown}"' if is_safe else "the first line is not a header"
    raise click.ClickException(f"{named}; {EXPECTED}. Nothing was written.")


def cells_of(line: str, **form: Any) -> list[str]:
    return next(csv.reader([line], **form))


def mistakes_of(errors: Mapping[str, Any]) -> str:
    """The mistakes of each field, in one line."""
    return "; ".join(
        f"{field}: {' '.join(why) if isinstance(why, list) else why}"
        for field, why in errors.items()
    )


def made_up(count: int, password: str) -> Iterator[Entry]:
    for number in range(1, count + 1):
        yield {
            "nombre": f"User {number}",
            "correo": f"user-{number:06}@example.com",
            "password": password,
        }


def batches(lines: Iterable[Entry]) -> Iterator[list[Entry]]:
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, BATCH)):
        yield batch


def missing(batch: list[Entry]) -> list[Entry]:
    """The entries of ``batch`` without an account."""
    wanted = {given["correo"]: given for given in batch}
    existing = set(db.session.scalars(select(User.correo).where(User.correo.in_(wanted))))
    db.session.rollback()  # Hashing comes next; no lock may last that long.
    return [given for correo, given in wanted.items() if correo not in existing]


def hashed(batch: list[Entry]) -> list[Entry]:
    """The rows of ``batch``, hashed on all cores."""
    # Looked up here: the threads have no app context.
    hash_one = passwords.hash_unqueued
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        hashes = list(cores.map(hash_one, (given["password"] for given in batch)))
    return [
        {"nombre": given["nombre"], "correo": given["correo"], "password_hash": password_hash}
        for given, password_hash in zip(batch, hashes, strict=True)
    ]


def insert_missing(rows: list[Entry]) -> int:
    """Insert the rows without an account; count them.

    The caller commits: a seed is written whole or not at all.
    """
    values = [{"id": uuid7(), "is_active": True, **row} for row in rows]
    statement = insert(User).values(values).on_conflict_do_nothing(index_elements=["correo"])
    return len(db.session.scalars(statement.returning(User.id)).all())
