"""audit events

Who changed what, and when; see tokenservice/audit. The table is append-only for every role.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLE = "audit_events"
# Where one role does everything, it is the only guard. So the purge, which names itself in its
# transaction, may do no more than its work either: take away addresses, and events of past months.
KEEP = """
CREATE FUNCTION keep_audit_events() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('token_service.audit_purge', true) = 'on' THEN
        IF TG_OP = 'DELETE' AND OLD.at < now() - interval '28 days' THEN
            RETURN OLD;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            OLD.address := NULL;
            IF NEW IS NOT DISTINCT FROM OLD THEN
                RETURN NEW;
            END IF;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_events is append-only' USING ERRCODE = 'restrict_violation';
END
$$
"""
TRIGGERS = {
    "audit_events_rows": "BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW",
    "audit_events_truncate": "BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT",
}
# Default privileges, as those of deploy/postgres/roles.sql, have given more to other roles.
TAKE = """
DO $$ DECLARE held record; BEGIN
    FOR held IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(rolname) END AS grantee
        FROM pg_class CROSS JOIN aclexplode(relacl) LEFT JOIN pg_roles ON pg_roles.oid = grantee
        WHERE pg_class.oid = 'audit_events'::regclass AND grantee <> relowner
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM %s', held.grantee);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.func.clock_timestamp(),
            nullable=False,
        ),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("actor_kind", sa.String(10), nullable=False),
        sa.Column("actor_id", sa.String(64), nullable=True),
        sa.Column("key_id", sa.String(18), nullable=True),
        sa.Column("target_kind", sa.String(10), nullable=True),
        sa.Column("target_id", sa.String(64), nullable=True),
        sa.Column("account_id", sa.String(64), nullable=True),
        sa.Column("address", sa.String(64), nullable=True),
        sa.Column("request_id", sa.String(128), nullable=True),
        sa.Column("reason", sa.String(500), nullable=True),
        sa.Column("facts", postgresql.JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    for column in ("at", "actor_id", "key_id", "target_id", "account_id"):
        op.create_index(f"ix_{TABLE}_{column}", TABLE, [column])
    op.create_index(
        f"ix_{TABLE}_with_address", TABLE, ["at"], postgresql_where=sa.text("address IS NOT NULL")
    )
    op.execute(KEEP)
    for name, event in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {event} EXECUTE FUNCTION keep_audit_events()")
        # Also where session_replication_role is "replica", as some tools set it.
        op.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {name}")
    op.execute(TAKE)


def downgrade() -> None:
    op.drop_table(TABLE)
    op.execute("DROP FUNCTION keep_audit_events()")
