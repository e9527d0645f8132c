"""account changes

A worker asks once a second for the accounts that changed; see tokenservice/auth/changes.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# It runs with the rights of its owner: a role that may change an account may not write this table.
# So it trusts no search path, and takes the schema of the trigger.
NOTE = """
CREATE FUNCTION note_account_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The transaction, not a time: one that began early may commit late, and clocks jump.
    own CONSTANT bigint := pg_current_xact_id()::text::bigint;
    everyone CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    into_table CONSTANT text :=
        format('INSERT INTO %I.account_changes (xid, user_id) ', TG_TABLE_SCHEMA);
    unless_noted CONSTANT text := ' ON CONFLICT (xid, user_id) DO UPDATE SET xid = excluded.xid';
    number bigint;
BEGIN
    -- Who reads 1001 changes or more forgets everyone, so no statement notes more.
    IF TG_OP = 'UPDATE' THEN
        EXECUTE into_table || 'SELECT DISTINCT $1, id FROM ('
            'SELECT id, correo, is_active FROM old_rows '
            'EXCEPT SELECT id, correo, is_active FROM new_rows) AS changed LIMIT 1001'
            || unless_noted USING own;
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE into_table || 'SELECT $1, id FROM old_rows LIMIT 1001' || unless_noted USING own;
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
TRIGGERS = {
    "account_changes_update": "UPDATE ON users "
    "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "account_changes_delete": "DELETE ON users REFERENCING OLD TABLE AS old_rows",
    "account_changes_truncate": "TRUNCATE ON users",
}


def upgrade() -> None:
    op.create_table(
        "account_changes",
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("xid", "user_id", name="pk_account_changes"),
    )
    op.execute(NOTE)
    op.execute("REVOKE ALL ON FUNCTION note_account_changes() FROM PUBLIC")
    for name, event in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} "
            "FOR EACH STATEMENT EXECUTE FUNCTION note_account_changes()"
        )
        # Also where session_replication_role is "replica", as some tools set it.
        op.execute(f"ALTER TABLE users ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON users")
    op.execute("DROP FUNCTION note_account_changes()")
    op.drop_table("account_changes")
