"""Migrations up and down under load."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import flask_migrate
import httpx
import psycopg2
import pytest
from flask import Flask

import dev
from tests.stage.paths import ROOT
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.revisions import HEAD, NEWER
from tests.stage.service import Service
from tests.torture.children import child
from tests.torture.ledger import record, trials
from tests.torture.load import Plan, crowd

GUARD = "SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
# A plausible next migration: a column and an index, both of which lock the table.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{number}", "{head}"
branch_labels = depends_on = None


def upgrade():
    op.add_column("users", sa.Column("idioma", sa.String(2), server_default="es", nullable=False))
    op.create_index("ix_users_idioma", "users", ["idioma"])


def downgrade():
    op.drop_index("ix_users_idioma", "users")
    op.drop_column("users", "idioma")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Postgres]:
    with dev.Postgres(tmp_path_factory.mktemp("migrated"), durable=False) as running:
        yield running


@pytest.fixture(scope="module")
def operator(server: dev.Postgres, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """The app as in the command ``flask db``."""
    app = make_app(database_url=server.url)
    with app.app_context():
        flask_migrate.upgrade()
        yield app
        app.extensions["migrate"].db.engine.dispose()


@pytest.fixture(scope="module")
def service(
    server: dev.Postgres, operator: Flask, serve: Callable[..., Service]
) -> Iterator[Service]:
    with serve(web_concurrency=2, database_url=server.url) as running:
        yield running


@pytest.fixture
def someone(service: Service) -> Person:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        return enrol(http.post)


def migrations(directory: Path, *changes: tuple[str, str]) -> Path:
    """The project's migrations and one more, with some text of their env.py changed."""
    copy = directory / "migrations"
    shutil.copytree(ROOT / "migrations", copy)
    later = NEXT.format(number=NEWER, head=HEAD)
    (copy / "versions" / f"{NEWER}_next.py").write_text(later)
    env = (copy / "env.py").read_text()
    for old, new in changes:
        assert old in env
        env = env.replace(old, new)
    (copy / "env.py").write_text(env)
    return copy


class LogIns:
    """Logins in a loop, which need Postgres."""

    def __init__(self, service: Service, person: Person) -> None:
        self._call = (f"{service.url}/auth/login", {"correo": person.correo, "password": PASSWORD})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.statuses: Counter[int] = Counter()

    def _work(self) -> None:
        path, body = self._call
        with httpx.Client(timeout=30) as http:
            while not self._over.wait(0.05):
                self.statuses[http.post(path, json=body).status_code] += 1

    def __enter__(self) -> LogIns:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def reader(server: dev.Postgres, seconds: float) -> Iterator[None]:
    """A transaction that has read from the table, and stays open for ``seconds``."""
    with contextlib.closing(psycopg2.connect(server.url)) as connection:
        connection.cursor().execute("SELECT count(*) FROM users")
        timer = threading.Timer(seconds, connection.rollback)
        timer.start()
        yield
        timer.join()


def test_migrating_up_and_down_fails_no_request(
    service: Service, server: dev.Postgres, operator: Flask, someone: Person, tmp_path: Path
) -> None:
    """Guard: ``lock_timeout`` in migrations/env.py, shorter than that of a request."""
    directory = str(migrations(tmp_path))
    rounds = trials(10, 1)
    plan = Plan(service.port, someone.headers["Authorization"], rate=50, connections=100)
    waits = []
    with LogIns(service, someone) as logins, child(crowd, plan) as clients:
        for _ in range(rounds):
            for migrate in (flask_migrate.upgrade, flask_migrate.downgrade):
                with reader(server, 1.5):
                    started = time.monotonic()
                    migrate(directory)
                    waits.append(time.monotonic() - started)
        result = clients.end()
    done = result.total + logins.statuses.total()
    failures = done - result.successes() - logins.statuses[200]
    record(
        f"The schema is migrated up and down ({rounds} times), each time during a read transaction "
        "of 1.5 s, and no request fails",
        n=done,
        failures=failures,
        figures=f"the longest took {max(waits):.1f} s",
    )
    assert logins.statuses.total() > 1
    assert not failures, (result.responses, result.failed, logins.statuses)
    assert max(waits) > 1, "the reader blocked no migration"


def test_without_the_lock_timeout_requests_fail(
    service: Service, server: dev.Postgres, operator: Flask, someone: Person, tmp_path: Path
) -> None:
    """The twin: the same reader blocks the same logins, so the test above can fail."""
    directory = str(migrations(tmp_path, (GUARD, "SET LOCAL lock_timeout = 0")))
    with LogIns(service, someone) as logins, reader(server, 2.5):
        flask_migrate.upgrade(directory)
    flask_migrate.downgrade(directory)
    assert logins.statuses[503]
