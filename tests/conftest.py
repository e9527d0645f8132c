"""Real servers, real apps, and the few verbs that tests speak in."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import flask_migrate
import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import dev
from config import Config
from tests.onetime.topologies import until
from tokenservice import create_app
from tokenservice.ops import probes

ROOT = Path(__file__).parent.parent
logging.getLogger("httpx").setLevel(logging.WARNING)

#: Set where nothing may be missing: there a test that would be skipped fails.
COMPLETE = "COMPLETE_MACHINE" in os.environ


def needs(present: object, reason: str) -> pytest.MarkDecorator:
    """Skip where the machine lacks something."""
    return pytest.mark.skipif(not (present or COMPLETE), reason=reason)


def lacks(reason: str) -> NoReturn:
    """The machine lacks what the running test needs."""
    (pytest.fail if COMPLETE else pytest.skip)(reason)


PASSWORD = "tres tristes tigres en un trigal"
numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Postgres]:
    with dev.Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    with dev.Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def config(postgres: dev.Postgres, redis_server: dev.Redis) -> Config:
    """Real servers, no limits, and hashing as cheap as argon2 allows: tests log in a lot."""
    return Config(
        secret_key=secrets.token_urlsafe(48),
        database_url=postgres.url,
        redis_url=redis_server.url,
        argon2_memory_kib=8,
        redis_timeout_ms=2000,  # Shared machines stall; the short default has its own tests.
        redis_connect_timeout_ms=2000,
        rate_limit_register="off",
        rate_limit_login="off",
        rate_limit_create="off",
        rate_limit_validate="off",
        drain_seconds=0,
    )


@pytest.fixture(scope="session")
def make_app(config: Config) -> Callable[..., Flask]:
    """Build an app with some settings changed."""

    def make(**changes: Any) -> Flask:
        return create_app(dataclasses.replace(config, **changes))

    return make


@pytest.fixture(scope="session")
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app()
    with app.app_context():
        flask_migrate.upgrade()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def readiness(client: FlaskClient) -> TestResponse:
    """What /readyz says once it has looked again."""
    time.sleep(probes.LOOK_AGAIN_SECONDS)
    return client.get("/readyz")


@dataclasses.dataclass
class Person:
    """Someone with an account, and the headers that prove it."""

    id: str
    correo: str
    headers: dict[str, str]


def new_correo() -> str:
    return f"person{next(numbers)}.{secrets.token_hex(4)}@example.com"


def enrol(post: Callable[..., Any]) -> Person:
    """Register and log in over ``post(path, json=…)``."""
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
    registered = post("/auth/register", json=account)
    login = post("/auth/login", json={"correo": account["correo"], "password": PASSWORD})
    body = [
        answer.json() if callable(answer.json) else answer.json for answer in (registered, login)
    ]
    return Person(
        body[0]["id"],
        account["correo"],
        {"Authorization": f"Bearer {body[1]['access_token']}"},
    )


@pytest.fixture
def person(client: FlaskClient) -> Person:
    return enrol(client.post)


@pytest.fixture
def other(client: FlaskClient) -> Person:
    return enrol(client.post)


class Service:
    """A gunicorn of our own, on loopback. It reads a ``.env`` beside its log, if there is one.

    :param root: where its code is
    """

    def __init__(self, settings: dict[str, str], log: Path, root: Path = ROOT) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        given = {"PYTHONPATH": "", "GUNICORN_CMD_ARGS": "", **settings}
        self._environment = given | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(root), given["PYTHONPATH"]]),
            # Of two configurations the last one counts.
            "GUNICORN_CMD_ARGS": f"-c {root}/gunicorn.conf.py {given['GUNICORN_CMD_ARGS']}",
        }

    def __enter__(self) -> Service:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self.port}"],
                cwd=self.log.parent,
                env=self._environment,
                stderr=log,
            )
        with contextlib.ExitStack() as failure:
            failure.push(self)
            self._wait()
            failure.pop_all()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # The first worker answers before the last one is there to be raced, or counted.
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{self.url}/healthz", timeout=5)
                if len(self.workers()) == int(self._environment["web_concurrency"]):
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError("gunicorn did not start: " + self.log.read_text())

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)

    def workers(self) -> list[int]:
        """The pids of its worker processes."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def reload(self) -> None:
        """Give it the settings as they are by now, and new workers."""
        before = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: len(now := self.workers()) == len(before) and not before & set(now))

    def descriptors(self, worker: int) -> list[str]:
        """What a worker has open: a path or, for example, "socket:[123]" with its inode."""
        found = []
        for link in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(link.readlink()))
        return found


@pytest.fixture(scope="session")
def serve(
    app: Flask, config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Service]:
    """Describe a gunicorn with some settings changed; ``with`` runs it."""

    def make(root: Path = ROOT, **changes: Any) -> Service:
        settings = {
            name: str(value)
            for name, value in dataclasses.asdict(config).items()
            if value is not None and value != () and name != "argon2_memory_kib"
        }
        settings |= {name: str(value) for name, value in changes.items()}
        return Service(settings, tmp_path_factory.mktemp("gunicorn") / "log", root)

    return make


@pytest.fixture(scope="session")
def service(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=3) as running:
        yield running
