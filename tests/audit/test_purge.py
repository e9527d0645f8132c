"""``flask audit purge``: old events go, and before them their addresses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

import dev
from config import Config, ConfigError
from tests.audit.table import closed, events, fill, newest
from tests.stage.people import PASSWORD, Person
from tests.stage.queries import execute
from tokenservice.auth import purging
from tokenservice.extensions import db

Run = Callable[..., str]


def test_a_purge_deletes_old_events_and_addresses_in_batches(
    app: Flask, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings audit_days and audit_address_days. It can be repeated, and is an event."""
    run("audit", "purge")
    monkeypatch.setattr(purging, "BATCH", 10)
    before = newest(app)
    for days in (401, 399, 91, 89):
        fill(app, 25, days)
    assert run("audit", "purge") == "25 events deleted, and 50 addresses.\n"
    left = events(app, before)
    assert [row["address"] for row in left] == [None] * 50 + ["192.0.2.7"] * 25 + [None]
    purged = left[-1]
    assert (purged["action"], purged["actor_kind"]) == ("audit.purged", "operator")
    assert set(purged["facts"]) == {"events_before", "addresses_before"}
    assert run("audit", "purge") == "0 events deleted, and 0 addresses.\n"


def test_the_times_are_settings(app: Flask, make_app: Callable[..., Flask], run: Run) -> None:
    before = fill(app, 1, days=31)
    fill(app, 1, days=2)
    own = make_app(audit_days=30, audit_address_days=1)
    assert own.test_cli_runner().invoke(args=["audit", "purge"]).exit_code == 0
    [younger, purged] = events(app, before)
    assert (younger["address"], purged["action"]) == (None, "audit.purged")


def test_a_purge_waits_for_nobody_and_nobody_for_it(
    app: Flask, client: FlaskClient, person: Person, run: Run
) -> None:
    """Guard: ``skip_locked``, and the batches."""
    before = fill(app, 2, days=500)
    body = {"correo": person.correo, "password": PASSWORD}
    with app.app_context(), db.engine.connect() as another:
        lock = text("SELECT FROM audit_events WHERE id = :id FOR UPDATE")
        another.execute(lock, {"id": before + 1})
        assert client.post("/auth/login", json=body).status_code == 200
        run("audit", "purge")
        found = execute(app, "SELECT id FROM audit_events WHERE at < now() - interval '400 days'")
        assert len(found) == 1
        another.rollback()
    assert run("audit", "purge").startswith("1 events deleted")


def test_a_purge_without_its_event_deletes_nothing(app: Flask, postgres: dev.Postgres) -> None:
    """The first batch commits the event. Guard: the event before it."""
    before = fill(app, 1, days=500)
    with closed(postgres.url, "actor_kind <> 'operator'"):
        assert app.test_cli_runner().invoke(args=["audit", "purge"]).exit_code == 1
    assert len(events(app, before)) == 1


def test_no_purge_is_set_to_delete_events_of_this_month() -> None:
    """And no address is kept longer than its event."""
    for given, why in (
        ({"audit_days": "29"}, "is not from 30"),
        ({"audit_days": "30", "audit_address_days": "31"}, "is more than audit_days"),
        ({"audit_days": "30"}, "is more than audit_days"),
    ):
        with pytest.raises(ConfigError, match=why):
            Config.from_mapping({"secret_key": "x" * 32, **given})
