"""Nothing changes or deletes an event but the purge, whatever the role."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.audit.table import Row, events, fill
from tests.stage.queries import execute
from tokenservice.extensions import db

PURGING = "SELECT set_config('token_service.audit_purge', 'on', true)"
CHANGES = [
    "UPDATE audit_events SET reason = 'another' WHERE id = {id}",
    "UPDATE audit_events SET actor_id = NULL, address = NULL WHERE id = {id}",
    "UPDATE audit_events SET address = '192.0.2.8' WHERE id = {id}",
    "DELETE FROM audit_events WHERE id = {id}",
    "TRUNCATE audit_events",
    "INSERT INTO audit_events (id, action, actor_kind) VALUES ({id}, 'a', 'b')",
]
#: As replication and some tools set it, which turns ordinary triggers off.
REPLICA = "SET LOCAL session_replication_role = 'replica'"


def attempt(app: Flask, *statements: str) -> str | None:
    """The SQLSTATE of the first statement that fails, as the owner of everything."""
    try:
        with app.app_context(), db.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    except DBAPIError as error:
        return str(error.orig.pgcode)  # type: ignore[union-attr]
    return None


@pytest.fixture
def event(app: Flask) -> Iterator[Row]:
    [row] = events(app, fill(app, 1, days=20))
    yield row
    assert [one for one in events(app, row["id"] - 1) if one["id"] == row["id"]] == [row]


@pytest.mark.parametrize("before", [(), (PURGING,), (REPLICA,)], ids=["", "purging", "replica"])
@pytest.mark.parametrize("change", CHANGES)
def test_no_event_of_this_month_changes(
    app: Flask, event: Row, change: str, before: tuple[str, ...]
) -> None:
    """Also by a role that owns everything. Guard: ``keep_audit_events`` of migration 0006."""
    refused = {"23001", "428C9"}  # The other: an id is given by Postgres alone.
    assert attempt(app, *before, change.format(id=event["id"])) in refused


def test_a_purge_takes_addresses_and_what_is_older(app: Flask) -> None:
    [first, second] = [row["id"] for row in events(app, fill(app, 2, days=29))]
    delete, without_address = CHANGES[3], CHANGES[2].replace("'192.0.2.8'", "NULL")
    assert attempt(app, delete.format(id=first)) == "23001"
    assert attempt(app, without_address.format(id=first)) == "23001"
    assert attempt(app, PURGING, without_address.format(id=first)) is None
    assert [row["address"] for row in events(app, first - 1)] == [None, "192.0.2.7"]
    for one in (first, second):
        assert attempt(app, PURGING, delete.format(id=one)) is None
    assert events(app, first - 1) == []


def test_a_mark_of_a_purge_ends_with_its_transaction(app: Flask) -> None:
    """A pooler gives the session to the next client."""
    assert attempt(app, PURGING) is None
    [row] = execute(app, "SELECT current_setting('token_service.audit_purge', true) AS it")
    assert not row["it"]


def test_the_time_is_that_of_postgres(app: Flask) -> None:
    [row] = events(app, fill(app, 1, days=0))
    assert abs(datetime.now(UTC) - row["at"]) < timedelta(minutes=1)
