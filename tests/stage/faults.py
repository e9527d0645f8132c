"""Faults of Redis and Postgres, each for as long as its ``with`` lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import psycopg2
import redis

import dev


class Stores(Protocol):
    """A Redis and a Postgres that can be broken."""

    redis: dev.Redis
    postgres: dev.Postgres


@contextlib.contextmanager
def admin(site: Stores) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(site.redis.url) as client:
        yield client


def configured(name: str, value: str) -> Callable[[Stores], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def fault(site: Stores) -> Iterator[None]:
        with admin(site) as client:
            before = client.config_get(name)[name]
            client.config_set(name, value)
            try:
                yield
            finally:
                client.config_set(name, before)

    return fault


@contextlib.contextmanager
def orphan_replica(site: Stores) -> Iterator[None]:
    """Redis is a replica of a master that does not exist."""
    with admin(site) as client:
        client.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextlib.contextmanager
def sql(site: Stores) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor at the server itself, apart from the way that the service takes."""
    options = "-c default_transaction_read_only=off"
    with (
        contextlib.closing(psycopg2.connect(site.postgres.url, options=options)) as connection,
        connection.cursor() as cursor,
    ):
        connection.autocommit = True
        yield cursor


@contextlib.contextmanager
def locked(site: Stores) -> Iterator[None]:
    """The table is locked, as by a migration that waits."""
    with sql(site) as cursor:
        cursor.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
