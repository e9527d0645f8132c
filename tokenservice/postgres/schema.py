"""The schema of the database beside the one of this code.

Migrations have numbers, 0001 and up, and are additive for one version: this code runs on the schema
of a later version too, as during a deployment and after a rollback.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, inspect

from tokenservice.extensions import db

MIGRATIONS = Path(__file__).parents[2] / "migrations"
OK, NEWER, NOT_AT_HEAD = "ok", "newer", "not at head"
NUMBER = re.compile(r"[0-9]{4}")


def head() -> str:
    """The newest revision of this code, by the names of its migrations: Alembic is 11 MB."""
    names = (path.stem.partition("_")[0] for path in MIGRATIONS.glob("versions/*.py"))
    return max(filter(NUMBER.fullmatch, names), default="")


def compare(connection: Connection, found: Collection[str], head: str) -> str:
    """Tell a schema of a later version from an older one, and from that of another program.

    :param found: the revisions in the database
    :param head: the newest revision of this code
    """
    if set(found) == {head}:
        return OK
    if len(found) == 1 and all(NUMBER.fullmatch(one) and one > head for one in found):
        return NEWER if has_tables(connection) else NOT_AT_HEAD
    return NOT_AT_HEAD


def has_tables(connection: Connection) -> bool:
    """Whether each table and column of this code is there: other programs number migrations too.

    It reads the catalogue, which no lock on a table delays.
    """
    tables = db.metadata.tables.values()
    found = inspect(connection).get_multi_columns(filter_names=[table.name for table in tables])
    return all(
        {column.name for column in table.columns}
        <= {column["name"] for column in found.get((None, table.name), [])}
        for table in tables
    )
