"""Migrations have numbers, and each only adds: the code before it runs on its schema too."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from alembic.script import ScriptDirectory
from click.testing import Result
from flask import Flask
from sqlalchemy import inspect, text

from tests.stage.commands import output
from tests.stage.people import enrol
from tests.stage.readiness import readiness
from tests.stage.revisions import HEAD, NEWER, NUMBERS, numbered
from tokenservice.extensions import db
from tokenservice.postgres.schema import MIGRATIONS, head

#: A migration of the next version: a column and a table.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{number}", "{head}"
branch_labels = depends_on = None


def upgrade():
    op.add_column("users", sa.Column("idioma", sa.String(2), server_default="es", nullable=False))
    op.create_table("audit", sa.Column("id", sa.Uuid(), primary_key=True))


def downgrade():
    op.drop_table("audit")
    op.drop_column("users", "idioma")
"""
Schema = dict[str, dict[str, Any]]


def schema() -> Schema:
    """The columns and the constraints of each table."""
    found = inspect(db.engine)
    tables: Schema = {}
    for table in set(found.get_table_names()) - {"alembic_version"}:
        primary = found.get_pk_constraint(table)
        unique = found.get_unique_constraints(table)
        unique += [one for one in found.get_indexes(table) if one["unique"]]
        foreign = [(one, one["constrained_columns"]) for one in found.get_foreign_keys(table)]
        checks = [
            (one, re.findall(r"\w+", one["sqltext"])) for one in found.get_check_constraints(table)
        ]
        tables[table] = {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            },
            "constraints": {
                one["name"]: set(columns)
                for one, columns in [
                    (primary, primary["constrained_columns"]),
                    *((one, one["column_names"]) for one in unique),
                    *foreign,
                    *checks,
                ]
            },
        }
    return tables


def breakage(before: Schema, after: Schema) -> list[str]:
    """What code that knows ``before`` can no longer do with ``after``."""
    found = []
    for table, old in before.items():
        if table not in after:
            found.append(f"{table} is gone")
            continue
        new = after[table]
        for column, kind in old["columns"].items():
            if new["columns"].get(column) != kind:
                found.append(f"{table}.{column} is gone or changed")
        for column in new["columns"].keys() - old["columns"].keys():
            _, nullable, default = new["columns"][column]
            if not nullable and default is None:
                found.append(f"{table}.{column} has no default")
        for name, columns in new["constraints"].items():
            if name not in old["constraints"] and columns & old["columns"].keys():
                found.append(f"{table} has a new constraint {name}")
    return found


def test_numbers_are_a_sequence() -> None:
    """``flask db revision --rev-id 0002``: the order of versions is read from the number."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert [f"{number:04}" for number in range(1, len(NUMBERS) + 1)] == NUMBERS
    for one in scripts.walk_revisions():
        below = f"{int(one.revision) - 1:04}"
        assert one.down_revision == (None if below == "0000" else below)


def test_the_head_is_read_from_the_names_of_the_files() -> None:
    """Without Alembic, and as Alembic finds it in the files."""
    assert head() == ScriptDirectory(str(MIGRATIONS)).get_current_head() == NUMBERS[-1]


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("number", NUMBERS)
def test_each_migration_only_adds(number: str) -> None:
    """What must go is first left by the code, and goes with a later version."""
    if number != NUMBERS[0]:
        flask_migrate.upgrade(revision=f"{int(number) - 1:04}")
    before = schema()
    flask_migrate.upgrade(revision=number)
    assert breakage(before, schema()) == []


BREAKING = [
    "DROP TABLE users CASCADE",
    "ALTER TABLE users RENAME TO accounts",
    "ALTER TABLE users DROP COLUMN nombre",
    "ALTER TABLE users RENAME COLUMN nombre TO name",
    "ALTER TABLE users ALTER COLUMN nombre TYPE varchar(50)",
    "ALTER TABLE users ALTER COLUMN nombre DROP NOT NULL",
    "ALTER TABLE users ALTER COLUMN is_active DROP DEFAULT",
    "ALTER TABLE users ALTER COLUMN is_active SET DEFAULT false",
    "ALTER TABLE users ADD COLUMN idioma varchar(2) NOT NULL",
    "ALTER TABLE users ADD CONSTRAINT one_name UNIQUE (nombre)",
    "CREATE UNIQUE INDEX one_name ON users (nombre)",
    "ALTER TABLE users ADD CONSTRAINT short CHECK (length(nombre) < 50)",
    "CREATE TABLE names (n varchar(100) PRIMARY KEY);"
    "ALTER TABLE users ADD CONSTRAINT known FOREIGN KEY (nombre) REFERENCES names (n)",
]
ADDING = [
    "ALTER TABLE users ADD COLUMN idioma varchar(2)",
    "ALTER TABLE users ADD COLUMN idioma varchar(2) NOT NULL DEFAULT 'es'",
    "ALTER TABLE users ADD COLUMN key varchar(9) UNIQUE CHECK (length(key) > 2)",
    "CREATE INDEX by_name ON users (nombre)",
    "CREATE TABLE audit (id int PRIMARY KEY, who uuid NOT NULL REFERENCES users (id))",
]


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("change", BREAKING + ADDING)
def test_a_change_that_breaks_the_code_before_would_be_noticed(change: str) -> None:
    """The counterpart of the test above."""
    flask_migrate.upgrade()
    before = schema()
    with db.engine.begin() as connection:
        connection.execute(text(change))
    assert bool(breakage(before, schema())) == (change in BREAKING)


@pytest.fixture
def newer(empty: Flask, tmp_path: Path) -> Flask:
    """An app on a database that the next version has migrated."""
    directory = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, directory)
    later = NEXT.format(number=NEWER, head=HEAD)
    (directory / "versions" / f"{NEWER}_next.py").write_text(later)
    flask_migrate.upgrade(directory=str(directory))
    return empty


def run(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=["db", *words])


def test_the_code_before_serves_on_a_newer_schema(newer: Flask) -> None:
    """Guard: ``NEWER`` in ``schema.compare``. Every old instance was 503 after a migration."""
    client = newer.test_client()
    ready = readiness(client)
    assert ready.status_code == 200
    assert ready.get_json()["checks"]["schema"] == "newer"
    assert client.get("/auth/me", headers=enrol(client.post).headers).status_code == 200


@pytest.mark.parametrize("revision", [[], ["head"], [HEAD], ["+1"]])
def test_an_upgrade_to_less_than_there_is_does_nothing(revision: list[str], newer: Flask) -> None:
    """As the first step of a rollback. Guard: ``is_newer`` in migrations/env.py."""
    before = schema()
    said = output(run(newer, "upgrade", *revision))
    assert "newer than this code: nothing to do" in said
    assert schema() == before


@pytest.mark.parametrize("words", [["downgrade"], ["downgrade", "base"], ["downgrade", "0001"]])
def test_a_downgrade_needs_the_newer_code(words: list[str], newer: Flask) -> None:
    before = schema()
    assert run(newer, *words).exit_code == 1
    assert schema() == before


@pytest.mark.parametrize(
    "other",
    [
        "UPDATE alembic_version SET version_num = 'ae1027a6acf3'",
        "UPDATE alembic_version SET version_num = 'NEWER'; DROP TABLE users CASCADE",
        "UPDATE alembic_version SET version_num = '20261126'",
        "INSERT INTO alembic_version VALUES ('NEWER')",
    ],
)
def test_the_database_of_another_program_is_refused(other: str, empty: Flask) -> None:
    """Guard: ``has_tables`` and ``NUMBER`` in schema.py."""
    flask_migrate.upgrade()
    with db.engine.begin() as connection:
        connection.execute(text(numbered(other)))
    before = schema()
    assert run(empty, "upgrade").exit_code == 1
    assert schema() == before


def test_an_upgrade_that_waits_for_a_newer_one_does_nothing(empty: Flask) -> None:
    """Two versions deploy at once. Guard: the revision is read behind the lock."""
    flask_migrate.upgrade()
    results = []
    with db.engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(7305812664)"))
        waiting = threading.Thread(target=lambda: results.append(run(empty, "upgrade")))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        connection.execute(text("ALTER TABLE users ADD COLUMN idioma varchar(2)"))
        connection.execute(text(numbered("UPDATE alembic_version SET version_num = 'NEWER'")))
    waiting.join(30)
    assert "nothing to do" in output(results[0])
