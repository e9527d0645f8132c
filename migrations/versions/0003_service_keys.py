"""service keys

A change of a key is noted as a change of its account; see tokenservice/auth/changes.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The function of migration 0002, for any table: a trigger may name the column with the account, and
# the columns whose change counts. Without these words it does what it did.
NOTE = """
CREATE OR REPLACE FUNCTION note_account_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The transaction, not a time: one that began early may commit late, and clocks jump.
    own CONSTANT bigint := pg_current_xact_id()::text::bigint;
    everyone CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    account CONSTANT text := coalesce(TG_ARGV[0], 'id');
    counting CONSTANT text := coalesce(TG_ARGV[1], 'id, correo, is_active');
    into_table CONSTANT text :=
        format('INSERT INTO %I.account_changes (xid, user_id) ', TG_TABLE_SCHEMA);
    unless_noted CONSTANT text := ' ON CONFLICT (xid, user_id) DO UPDATE SET xid = excluded.xid';
    number bigint;
BEGIN
    -- Who reads 1001 changes or more forgets everyone, so no statement notes more.
    IF TG_OP = 'UPDATE' THEN
        EXECUTE into_table || format('SELECT DISTINCT $1, %s FROM ('
            'SELECT %s FROM old_rows EXCEPT SELECT %s FROM new_rows) AS changed LIMIT 1001',
            account, counting, counting) || unless_noted USING own;
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE into_table || format('SELECT DISTINCT $1, %s FROM old_rows LIMIT 1001', account)
            || unless_noted USING own;
    ELSE
        EXECUTE into_table || 'SELECT $1, $2' || unless_noted USING own, everyone;
    END IF;

    -- The table stays small: in place of what earlier transactions noted, one row says that any
    -- account may have changed. Whoever has not seen these notes has not seen this row either.
    -- In other isolations a row that is gone meanwhile would end the transaction.
    IF current_setting('transaction_isolation') = 'read committed' THEN
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %I.account_changes LIMIT 5001) AS noted',
            TG_TABLE_SCHEMA) INTO number;
        IF number > 5000 THEN
            EXECUTE format('DELETE FROM %I.account_changes WHERE (xid, user_id) IN ('
                'SELECT xid, user_id FROM %I.account_changes WHERE xid <> $1 '
                'FOR UPDATE SKIP LOCKED)', TG_TABLE_SCHEMA, TG_TABLE_SCHEMA) USING own;
            GET DIAGNOSTICS number = ROW_COUNT;
            IF number > 0 THEN
                EXECUTE into_table || 'SELECT $1, $2' || unless_noted USING own, everyone;
            END IF;
        END IF;
    END IF;
    RETURN NULL;
END
$$
"""
#: All but the names, and the day of the last use.
COUNTING = (
    "id, user_id, secret_hash, scopes, purposes, cidrs, limit_create, limit_validate, expires_at, "
    "revoked_at"
)
TRIGGERS = {
    "account_changes_update": "UPDATE ON service_keys "
    "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "account_changes_delete": "DELETE ON service_keys REFERENCING OLD TABLE AS old_rows",
    "account_changes_truncate": "TRUNCATE ON service_keys",
}


def upgrade() -> None:
    op.create_table(
        "service_keys",
        sa.Column("id", sa.String(18), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("purposes", sa.Text(), server_default="", nullable=False),
        sa.Column("cidrs", sa.Text(), server_default="", nullable=False),
        sa.Column("limit_create", sa.String(64), nullable=True),
        sa.Column("limit_validate", sa.String(64), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_on", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_service_keys"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_service_keys_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_service_keys_user_id", "service_keys", ["user_id"])
    op.execute(NOTE)
    for name, event in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} FOR EACH STATEMENT "
            f"EXECUTE FUNCTION note_account_changes('user_id', '{COUNTING}')"
        )
        # Also where session_replication_role is "replica", as some tools set it.
        op.execute(f"ALTER TABLE service_keys ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    # The function stays: it does for the triggers of 0002 what theirs did.
    op.drop_table("service_keys")
