"""SQL on the Postgres of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import psycopg2


def execute(url: str, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run one statement, and return its rows."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []
