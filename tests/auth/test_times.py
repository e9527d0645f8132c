"""The times of an account are in UTC, whatever the time zone of Postgres is."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import flask_migrate
import psycopg2
import pytest
from flask import Flask
from sqlalchemy import make_url

import dev
from tests.stage.people import enrol
from tokenservice.extensions import db


@pytest.fixture
def elsewhere(postgres: dev.Postgres, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """An app on a database of its own, in Nepal."""
    name = f"elsewhere_{secrets.token_hex(4)}"
    with contextlib.closing(psycopg2.connect(postgres.url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE {name}")
        cursor.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
    url = make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
    app = make_app(database_url=url)
    with app.app_context():
        flask_migrate.upgrade()
        yield app
        db.session.remove()
        db.engine.dispose()


def assert_utc(app: Flask) -> None:
    """In the response to a registration, in that of /auth/me, and in the output of a command."""
    client = app.test_client()
    shown = []

    def post(path: str, json: dict[str, str]) -> object:
        response = client.post(path, json=json)
        shown.append(response.json)
        return response

    person = enrol(post)
    shown[1:] = [client.get("/auth/me", headers=person.headers).json]
    listed = app.test_cli_runner().invoke(args=["users", "disable", person.correo])
    shown.append(json.loads(listed.stdout))
    for account in shown:
        assert account["created_at"].endswith("+00:00")
        age = datetime.now(UTC) - datetime.fromisoformat(account["created_at"])
        assert abs(age) < timedelta(minutes=5)
    assert len({account["created_at"] for account in shown}) == 1


def test_an_account_is_dated_in_utc_by_a_database_in_another_zone(elsewhere: Flask) -> None:
    """Guard: ``fields.Moment``."""
    assert_utc(elsewhere)


@pytest.mark.usefixtures("app")
def test_an_account_is_dated_in_utc_in_a_shell_of_another_zone(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq reads PGTZ."""
    monkeypatch.setenv("PGTZ", "America/Bogota")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert_utc(make_app())
