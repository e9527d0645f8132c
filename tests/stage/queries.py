"""Single queries of a Postgres or a Redis, and the queries of an app."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg2
import redis
from flask import Flask
from sqlalchemy import event, text

from tokenservice.extensions import db


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def ping(url: str) -> bool:
    with contextlib.closing(redis.from_url(url)) as client:
        return bool(client.ping())


def execute(app: Flask, statement: str, **values: Any) -> list[Any]:
    """The rows that a statement of the database of ``app`` returns, if it returns any."""
    with app.app_context(), db.engine.begin() as connection:
        done = connection.execute(text(statement), values)
        return list(done.mappings()) if done.returns_rows else []


def waits_for_a_lock(app: Flask, words: str) -> bool:
    """Whether a query with these words waits for another transaction."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :words"
    return bool(execute(app, waiting, words=f"%{words}%"))


@contextlib.contextmanager
def recorded(app: Flask, beginning: str = "", *, own: bool = False) -> Iterator[list[str]]:
    """The queries of ``app`` to Postgres in the block that start with ``beginning``.

    :param own: those of this thread alone, without the looks for changed accounts
    """
    seen: list[str] = []
    thread = threading.get_ident()

    def note(*call: Any) -> None:
        if call[2].startswith(beginning) and (not own or threading.get_ident() == thread):
            seen.append(call[2])

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)
