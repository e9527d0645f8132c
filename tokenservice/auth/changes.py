"""The accounts that changed since the last look, as triggers note them.

A change of a key, and the end of a session, count as one of its account (migrations 0002 to 0005).

A note names its transaction, not a time: a transaction that began early may commit late. Each look
returns its snapshot, and the next look asks for the notes of all transactions that this snapshot
did not see. So each change is seen once it is committed, in whatever order, and no clock counts.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import text

from tokenservice.extensions import db

#: So many changes at once count as a change of any account.
MANY = 1001
#: The id in a note that any account may have changed.
EVERYONE = "00000000-0000-0000-0000-000000000000"

#: The tables with such triggers, three each.
TABLES = ("users", "service_keys", "sessions")

# One statement, so that all of it has one snapshot. Without a row: a standby, which sees commits
# later, a table without its triggers, or with some that are not in force, or one that logical
# replication changes, which calls no such triggers. The columns after "changed" are the history:
# another server, or this one after a crash, another database or table, and triggers that were off.
LOOK = text(f"""
SELECT pg_current_snapshot()::text, ARRAY(
        SELECT user_id::text FROM account_changes
        WHERE xid >= pg_snapshot_xmin(CAST(:since AS pg_snapshot))::text::bigint
        AND NOT pg_visible_in_snapshot(xid::text::xid8, CAST(:since AS pg_snapshot))
        LIMIT :many) AS changed,
    pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time(),
    (SELECT oid FROM pg_database WHERE datname = current_database()),
    string_agg(concat_ws(' ', tgrelid::oid, pg_relation_filenode(tgrelid), xmin), ','
        ORDER BY tgrelid, tgname)
FROM pg_trigger
WHERE tgrelid IN ({", ".join(f"to_regclass('{table}')" for table in TABLES)})
    AND tgname LIKE 'account\\_changes\\_%' AND tgenabled = 'A'
    AND NOT pg_is_in_recovery()
    AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = tgrelid)
HAVING count(*) = {3 * len(TABLES)}
""")  # noqa: S608 - the names of the tables are the constants above


class Sight(NamedTuple):
    """What one look saw.

    :ivar snapshot: the transactions that it could see
    :ivar changed: the ids of the accounts that changed since the look before; None for any account
    :ivar history: what is the same as long as a server keeps every commit that it has shown; the
        start of the server first
    """

    snapshot: str
    changed: list[str] | None
    history: tuple[object, ...]

    @property
    def server(self) -> object:
        return self.history[0]

    def follows(self, earlier: Sight) -> bool:
        """Whether it may be compared with ``earlier``: Postgres has not gone back since."""
        return self.history == earlier.history and self.next_xid >= earlier.next_xid

    @property
    def next_xid(self) -> int:
        return int(self.snapshot.split(":")[1])


def look(since: Sight | None) -> Sight | None:
    """Ask for the changes since that look; None where this server cannot tell.

    :raises sqlalchemy.exc.SQLAlchemyError: Postgres did not respond
    """
    with db.engine.connect() as connection:
        row = connection.execute(
            LOOK, {"since": since and since.snapshot, "many": MANY}
        ).one_or_none()
    if row is None:
        return None
    snapshot, changed, *history = row
    is_any = len(changed) == MANY or EVERYONE in changed
    return Sight(snapshot, None if is_any else changed, tuple(history))
