"""An app on an empty database."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from flask import Flask
from psycopg2 import sql
from sqlalchemy import make_url

import dev
from tokenservice.extensions import db


@pytest.fixture
def empty(postgres: dev.Postgres, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """An app on a database of its own, with nothing in it."""
    name = f"migrations_{secrets.token_hex(4)}"
    with contextlib.closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
    app = make_app(database_url=url)
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()
