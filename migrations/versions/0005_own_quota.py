"""limits of a key in place of its account's

The mark counts as a change of its account; see tokenservice/auth/changes.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TRIGGER = "account_changes_update"
#: Those of migration 0003.
COUNTING = (
    "id, user_id, secret_hash, scopes, purposes, cidrs, limit_create, limit_validate, expires_at, "
    "revoked_at"
)


def note(counting: str) -> None:
    """Note a change of these columns."""
    op.execute(f"DROP TRIGGER {TRIGGER} ON service_keys")
    op.execute(
        f"CREATE TRIGGER {TRIGGER} AFTER UPDATE ON service_keys "
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT "
        f"EXECUTE FUNCTION note_account_changes('user_id', '{counting}')"
    )
    op.execute(f"ALTER TABLE service_keys ENABLE ALWAYS TRIGGER {TRIGGER}")


def upgrade() -> None:
    own = sa.Column("own_quota", sa.Boolean(), server_default=sa.false(), nullable=False)
    op.add_column("service_keys", own)
    note(f"{COUNTING}, own_quota")


def downgrade() -> None:
    note(COUNTING)
    op.drop_column("service_keys", "own_quota")
