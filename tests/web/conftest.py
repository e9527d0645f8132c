"""Clients and accounts of the web tests."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

import dev
from tests.stage.people import Person, enrol

addresses = itertools.count(1)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client with an address of its own."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = f"10.9.{next(addresses) // 250}.{next(addresses) % 250}"
    return client


@pytest.fixture(scope="module")
def people(app: Flask) -> list[Person]:
    return [enrol(app.test_client().post) for _ in range(2)]


@pytest.fixture
def ana(people: list[Person]) -> Person:
    return people[0]


@pytest.fixture
def berta(people: list[Person]) -> Person:
    return people[1]


@pytest.fixture
def restored(own_redis: dev.Redis, counters: redis.Redis) -> Iterator[dev.Redis]:
    """The Redis of these tests, repaired after a test that breaks it."""
    yield own_redis
    if own_redis.process is None or own_redis.process.poll() is not None:
        own_redis.start()
    own_redis.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    counters.config_set("maxmemory", "128mb")
