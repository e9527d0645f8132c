"""sessions

The end of a session is noted as a change of its account; see tokenservice/auth/changes.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: Not the hashes and the times: a refresh changes nothing for a caller.
COUNTING = "id, user_id, ended_at"
TRIGGERS = {
    "account_changes_update": "UPDATE ON sessions "
    "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "account_changes_delete": "DELETE ON sessions REFERENCING OLD TABLE AS old_rows",
    "account_changes_truncate": "TRUNCATE ON sessions",
}


def upgrade() -> None:
    now = {"server_default": sa.func.now(), "nullable": False}
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), **now),
        sa.Column("rotated_at", sa.DateTime(timezone=True), **now),
        sa.Column("user_agent", sa.String(200), server_default="", nullable=False),
        sa.Column("address", sa.String(45), server_default="", nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_why", sa.String(20), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    for name, event in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} FOR EACH STATEMENT "
            f"EXECUTE FUNCTION note_account_changes('user_id', '{COUNTING}')"
        )
        # Also where session_replication_role is "replica", as some tools set it.
        op.execute(f"ALTER TABLE sessions ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    op.drop_table("sessions")
