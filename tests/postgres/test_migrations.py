"""The schema comes from migrations alone, and they agree with the models."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import inspect, text

from config import Config
from tests.stage.entries import run
from tests.stage.paths import ROOT
from tests.stage.readiness import readiness
from tests.stage.revisions import HEAD
from tokenservice.extensions import db


def tables() -> set[str]:
    return set(inspect(db.engine).get_table_names()) - {"alembic_version"}


def columns() -> dict[str, list[str]]:
    found = inspect(db.engine)
    return {
        table: [f"{column['name']} {column['type']}" for column in found.get_columns(table)]
        for table in found.get_table_names()
    }


@pytest.mark.usefixtures("empty")
def test_up_down_and_up_again() -> None:
    flask_migrate.upgrade()
    first = columns()
    assert "users" in first

    flask_migrate.downgrade(revision="base")
    assert tables() == set()

    flask_migrate.upgrade()
    assert columns() == first


@pytest.mark.usefixtures("empty")
def test_a_downgrade_by_one_step_can_be_undone() -> None:
    """A rollback by one release is a downgrade by one step."""
    flask_migrate.upgrade()
    newest = columns()
    flask_migrate.downgrade()
    flask_migrate.upgrade()
    assert columns() == newest


@pytest.mark.usefixtures("empty")
def test_an_upgrade_at_head_does_nothing() -> None:
    flask_migrate.upgrade()
    before = columns()
    flask_migrate.upgrade()
    assert columns() == before


@pytest.mark.usefixtures("empty")
def test_models_and_migrations_agree() -> None:
    """Red when a model changes without a migration, or the other way round."""
    flask_migrate.upgrade()
    with db.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, db.metadata) == []


@pytest.mark.usefixtures("empty")
def test_every_constraint_has_its_name() -> None:
    """Errors and later migrations tell constraints apart by these names."""
    flask_migrate.upgrade()
    found = inspect(db.engine)
    assert found.get_pk_constraint("users")["name"] == "pk_users"
    assert {unique["name"] for unique in found.get_unique_constraints("users")} == {
        "uq_users_correo"
    }
    for table in db.metadata.tables.values():
        assert {constraint.name for constraint in table.constraints} >= {f"pk_{table.name}"}
        assert None not in {constraint.name for constraint in table.constraints}


@pytest.mark.usefixtures("empty")
def test_the_database_has_the_defaults_too() -> None:
    """The previous release, which knows fewer columns, can still insert."""
    flask_migrate.upgrade()
    insert = text(
        "INSERT INTO users (id, nombre, correo, password_hash) "
        "VALUES (gen_random_uuid(), 'Ana', 'ana@example.com', '') "
        "RETURNING is_active, created_at IS NOT NULL"
    )
    with db.engine.begin() as connection:
        assert tuple(connection.execute(insert).one()) == (True, True)


def test_readiness_reports_a_schema_not_at_head(empty: Flask) -> None:
    """Guard: the comparison of revisions in ``probes.check_postgres``."""
    client = empty.test_client()
    before = client.get("/readyz")
    assert before.status_code == 503
    assert before.json["checks"]["schema"] == "not at head"
    assert before.headers["Retry-After"]

    flask_migrate.upgrade()

    after = readiness(client)
    assert after.status_code == 200
    assert set(after.json["checks"].values()) == {"ok"}


def test_migrations_refuse_another_application(tmp_path: Path) -> None:
    """FLASK_APP of another project, found before any code of this one, would migrate its
    database."""
    (tmp_path / "alien.py").write_text(
        "import flask, flask_migrate, flask_sqlalchemy\n"
        "app = flask.Flask(__name__)\n"
        "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite://'\n"
        f"folder = {str(ROOT / 'migrations')!r}\n"
        "database = flask_sqlalchemy.SQLAlchemy(app)\n"
        "migrate = flask_migrate.Migrate(app, database, folder)\n"
    )
    done = run(["-m", "flask", "db", "upgrade"], tmp_path, {"FLASK_APP": "alien"})
    assert done.returncode == 1
    assert "is not the token service" in done.stderr


@pytest.mark.slow
def test_a_folder_may_have_any_name(tmp_path: Path, config: Config) -> None:
    """Jenkins names folders like this; a "%" is a sign to alembic's parser."""
    root = tmp_path / "%(here)s" / "feature%2Flogin" / "100%"
    root.mkdir(parents=True)
    for part in ("tokenservice", "settings", "migrations", "config.py", "wsgi.py"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / part)
    given = {"secret_key": secrets.token_urlsafe(48), "database_url": str(config.database_url)}
    for words in (["db", "upgrade"], ["db", "current"], ["users", "list"]):
        done = run(["-m", "flask", *words], root, {"PYTHONPATH": "", **given})
        assert done.returncode == 0, done.stderr


#: It serves, and then it is forked for each command, which so is the first in its process.
SERVED_AND_ASKED = """
import os, sys, flask.cli, wsgi
assert wsgi.app.test_client().get("/healthz").status_code == 200
print({"alembic", "flask_migrate", "mako"} & set(sys.modules), flush=True)
_, *commands = sys.argv
for words in commands:
    print(end="\\0", flush=True)
    if not (child := os.fork()):
        sys.argv = ["flask", "--app", "wsgi", *words.split()]
        sys.exit(flask.cli.main())
    assert os.waitpid(child, 0)[1] == 0, words
"""


@pytest.mark.slow
def test_a_server_does_not_load_alembic_and_every_command_does(
    tmp_path: Path, config: Config
) -> None:
    """Guard: ``terminal.init_app``. It is 11 MB."""
    given = {"secret_key": secrets.token_urlsafe(48), "database_url": str(config.database_url)}
    words = {
        "--help": "Perform database migrations.",
        "db --help": "Upgrade to a later version",
        "db upgrade --help": "--sql",
        "db heads": f"{HEAD} (head)",
        "db history": "<base> -> 0001",
        "db -d migrations current --help": "--verbose",
    }
    done = run(["-c", SERVED_AND_ASKED, *words], tmp_path, given)
    assert done.returncode == 0, done.stderr
    loaded, *told = done.stdout.split("\0")
    assert loaded == "set()\n"
    for given_words, output in zip(words, told, strict=True):
        assert words[given_words] in output
