"""Callers of the token routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.callers import Caller
from tests.stage.people import Person, enrol


@pytest.fixture
def ana(client: FlaskClient, person: Person) -> Caller:
    return Caller(client, person)


@pytest.fixture
def berta(client: FlaskClient, other: Person) -> Caller:
    return Caller(client, other)


@pytest.fixture
def in_app(make_app: Callable[..., Flask], app: Flask) -> Callable[..., Caller]:
    """Make a new caller of an app with some settings changed."""

    def make(**changes: Any) -> Caller:
        client = make_app(**changes).test_client()
        return Caller(client, enrol(client.post))

    return make
