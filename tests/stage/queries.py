"""Single queries of a Postgres or a Redis."""

from __future__ import annotations

import contextlib

import psycopg2
import redis


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def ping(url: str) -> bool:
    with contextlib.closing(redis.from_url(url)) as client:
        return bool(client.ping())
