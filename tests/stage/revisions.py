"""The numbers of the migrations."""

from __future__ import annotations

from alembic.script import ScriptDirectory

from tokenservice.postgres.schema import MIGRATIONS

NUMBERS = sorted(one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions())
HEAD = NUMBERS[-1]
#: The number of the next version's migration.
NEWER = f"{len(NUMBERS) + 1:04}"


def numbered(sql: str) -> str:
    """The statement with the numbers in place of ``HEAD`` and ``NEWER``."""
    return sql.replace("HEAD", HEAD).replace("NEWER", NEWER)
