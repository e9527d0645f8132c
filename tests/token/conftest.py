"""Callers of the token routes, through either door."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage import callers
from tests.stage.callers import Caller
from tests.stage.doors import open_door
from tests.stage.lines import copied
from tests.stage.people import Person, enrol


@pytest.fixture(scope="session", params=["flask", "direct"])
def door(request: pytest.FixtureRequest) -> str:
    """Every test with a client of this app runs twice: through Flask, and through the direct door
    wherever that is open."""
    return str(request.param)


@pytest.fixture(scope="session")
def through_door(make_app: Callable[..., Flask], door: str) -> Callable[..., Flask]:
    """Build an app with some settings changed; its clients come through the door."""

    def make(**changes: Any) -> Flask:
        app = make_app(**changes)
        if door == "direct":
            open_door(app)
        return app

    return make


@pytest.fixture(scope="session")
def entered(app: Flask, through_door: Callable[..., Flask]) -> Flask:
    """The app behind the door; ``app`` has made the tables."""
    return through_door()


@pytest.fixture
def client(entered: Flask) -> FlaskClient:
    return entered.test_client()


@pytest.fixture
def ana(client: FlaskClient, person: Person) -> Caller:
    return Caller(client, person)


@pytest.fixture
def berta(client: FlaskClient, other: Person) -> Caller:
    return Caller(client, other)


@pytest.fixture
def in_app(through_door: Callable[..., Flask], app: Flask) -> Callable[..., Caller]:
    """Make a new caller of an app with some settings changed."""

    def make(**changes: Any) -> Caller:
        client = through_door(**changes).test_client()
        return Caller(client, enrol(client.post))

    return make


@pytest.fixture
def always_fresh() -> Iterator[None]:
    with callers.always_fresh():
        yield


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of both streams, as they are written, but for the times of the stores.

    Of two calls alike, one may read its caller anew and the other not.
    """
    return copied(monkeypatch, lambda line: re.sub(r', "(redis|postgres)_ms": [\d.]+', "", line))
