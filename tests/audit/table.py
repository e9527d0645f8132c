"""The table of the audit trail, as tests read and fill it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from flask import Flask

from tests.stage.queries import execute, query

Row = dict[str, Any]


def newest(app: Flask) -> int:
    """The id of the newest event."""
    return int(execute(app, "SELECT coalesce(max(id), 0) AS id FROM audit_events")[0]["id"])


def events(app: Flask, after: int = 0) -> list[Row]:
    """The events with a higher id, oldest first."""
    found = execute(app, "SELECT * FROM audit_events WHERE id > :after ORDER BY id", after=after)
    return [dict(row) for row in found]


def actions(app: Flask, after: int = 0) -> list[str]:
    return [row["action"] for row in events(app, after)]


def fill(app: Flask, count: int, days: int, address: str = "192.0.2.7") -> int:
    """Write events of that age; return the id before the first of them."""
    before = newest(app)
    execute(
        app,
        "INSERT INTO audit_events (at, action, actor_kind, actor_id, address, request_id) "
        "SELECT now() - make_interval(days => :days), 'key.created', 'account', "
        "gen_random_uuid()::text, :address, md5(n::text) FROM generate_series(1, :count) AS n",
        **{"count": count, "days": days, "address": address},
    )
    return before


@contextlib.contextmanager
def closed(url: str, condition: str = "false") -> Iterator[None]:
    """No event can be written in the block but those that meet a condition.

    The limits of an app might end the statements too soon, and leave the table closed.
    """
    query(url, f"ALTER TABLE audit_events ADD CONSTRAINT closed CHECK ({condition}) NOT VALID")
    try:
        yield
    finally:
        query(url, "ALTER TABLE audit_events DROP CONSTRAINT closed")
