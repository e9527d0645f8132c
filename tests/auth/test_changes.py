"""The notes of changed accounts: what a look at them sees, whatever else happens in Postgres."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import text

import dev
from tests.stage.people import new_correo
from tests.stage.queries import query
from tokenservice.auth import changes
from tokenservice.auth.changes import MANY, Sight, look
from tokenservice.extensions import db

INSERT = "INSERT INTO users (id, nombre, correo, password_hash) VALUES (%s, 'Ana', %s, '')"
DISABLE = "UPDATE users SET is_active = false WHERE id = %s"
#: Many accounts at once, all with this name.
CROWD = (
    "INSERT INTO users (id, nombre, correo, password_hash) SELECT gen_random_uuid(), %s, "
    "gen_random_uuid() || '@example.com', '' FROM generate_series(1, %s)"
)


@pytest.fixture(autouse=True)
def in_app(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


@contextlib.contextmanager
def session(postgres: dev.Postgres) -> Iterator[Any]:
    """A cursor of another client, in a transaction that ends with "COMMIT" or not at all."""
    with (
        contextlib.closing(psycopg2.connect(postgres.url)) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


@pytest.fixture
def other(postgres: dev.Postgres) -> Iterator[Any]:
    with session(postgres) as cursor:
        yield cursor


def account(cursor: Any) -> str:
    """A new account, committed."""
    user_id = str(uuid.uuid4())
    cursor.execute(INSERT, [user_id, new_correo()])
    cursor.execute("COMMIT; BEGIN")
    return user_id


def key(cursor: Any, user_id: str) -> str:
    """A new key of an account, committed."""
    key_id = secrets.token_hex(9)
    cursor.execute(
        "INSERT INTO service_keys (id, user_id, name, secret_hash, scopes) "
        "VALUES (%s, %s, 'a key', '', 'token:create')",
        [key_id, user_id],
    )
    cursor.execute("COMMIT; BEGIN")
    return key_id


def crowd(cursor: Any, count: int) -> str:
    """The name of so many new accounts."""
    name = str(uuid.uuid4())
    cursor.execute(CROWD, [name, count])
    cursor.execute("COMMIT; BEGIN")
    return name


def now(since: Sight | None = None) -> Sight:
    seen = look(since)
    assert seen
    assert since is None or seen.follows(since)
    return seen


@pytest.mark.parametrize(
    "change",
    [
        DISABLE,
        "UPDATE users SET correo = 'new.' || correo WHERE id = %s",
        "UPDATE users SET id = gen_random_uuid() WHERE id = %s",
        "DELETE FROM users WHERE id = %s",
        "SAVEPOINT one; DELETE FROM users WHERE id = %s; RELEASE SAVEPOINT one",
        # As tools do that load data.
        "SET LOCAL session_replication_role = replica; DELETE FROM users WHERE id = %s",
        "SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE; DELETE FROM users WHERE id = %s",
        "SET LOCAL search_path = pg_catalog; DELETE FROM public.users WHERE id = %s",
    ],
)
def test_a_change_is_seen_once_and_by_its_account(change: str, other: Any) -> None:
    """Guard: the triggers of migration 0002."""
    user_id = account(other)
    before = now()
    other.execute(change, [user_id])
    assert now(before).changed == []
    other.execute("COMMIT")
    after = now(before)
    assert after.changed == [user_id]
    assert now(after).changed == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE service_keys SET revoked_at = now() WHERE id = %s",
        "UPDATE service_keys SET expires_at = now() WHERE id = %s",
        "UPDATE service_keys SET scopes = 'token:read' WHERE id = %s",
        "UPDATE service_keys SET purposes = 'pay' WHERE id = %s",
        "UPDATE service_keys SET cidrs = '192.0.2.0/24' WHERE id = %s",
        "UPDATE service_keys SET limit_create = '1 per hour' WHERE id = %s",
        "UPDATE service_keys SET limit_validate = '1 per hour' WHERE id = %s",
        "UPDATE service_keys SET own_quota = true WHERE id = %s",
        "UPDATE service_keys SET secret_hash = 'x' WHERE id = %s",
        "UPDATE service_keys SET id = 'x' WHERE id = %s",
        "DELETE FROM service_keys WHERE id = %s",
        "DELETE FROM users WHERE id = (SELECT user_id FROM service_keys WHERE id = %s)",
        "SET LOCAL session_replication_role = replica; DELETE FROM service_keys WHERE id = %s",
        "SET LOCAL search_path = pg_catalog; DELETE FROM public.service_keys WHERE id = %s",
    ],
)
def test_a_change_of_a_key_is_seen_by_its_account(change: str, other: Any) -> None:
    """Guard: the triggers of migrations 0003 and 0005."""
    user_id = account(other)
    key_id = key(other, user_id)
    before = now()
    other.execute(change, [key_id])
    other.execute("COMMIT")
    after = now(before)
    assert after.changed == [user_id]
    assert now(after).changed == []


def open_session(cursor: Any, user_id: str) -> str:
    """A new session of an account, committed."""
    session_id = str(uuid.uuid4())
    cursor.execute(
        "INSERT INTO sessions (id, user_id, token_hash) VALUES (%s, %s, '')", [session_id, user_id]
    )
    cursor.execute("COMMIT; BEGIN")
    return session_id


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET ended_at = now() WHERE id = %s",
        "UPDATE sessions SET id = gen_random_uuid() WHERE id = %s",
        "DELETE FROM sessions WHERE id = %s",
        "SET LOCAL session_replication_role = replica; DELETE FROM sessions WHERE id = %s",
    ],
)
def test_the_end_of_a_session_is_seen_by_its_account(change: str, other: Any) -> None:
    """Guard: the triggers of migration 0004."""
    user_id = account(other)
    session_id = open_session(other, user_id)
    before = now()
    other.execute(change, [session_id])
    other.execute("COMMIT")
    assert now(before).changed == [user_id]


def test_a_login_and_a_refresh_are_no_change(other: Any) -> None:
    """Else each would cost all callers of the account a query."""
    user_id = account(other)
    before = now()
    session_id = open_session(other, user_id)
    spent = "UPDATE sessions SET rotated_at = now(), token_hash = 'x' WHERE id = %s"
    other.execute(spent, [session_id])
    other.execute("COMMIT")
    assert now(before).changed == []


def test_a_key_of_another_account_is_seen_by_the_one_before(other: Any) -> None:
    user_id, another = account(other), account(other)
    key_id = key(other, user_id)
    before = now()
    other.execute("UPDATE service_keys SET user_id = %s WHERE id = %s", [another, key_id])
    other.execute("COMMIT")
    assert now(before).changed == [user_id]


def test_a_new_key_and_its_use_are_no_change(other: Any) -> None:
    """Else each key would cost its account a query once a day."""
    user_id = account(other)
    before = now()
    key_id = key(other, user_id)
    used = "UPDATE service_keys SET last_used_on = now(), name = 'x' WHERE id = %s"
    other.execute(used, [key_id])
    other.execute("COMMIT")
    assert now(before).changed == []


def test_many_changes_of_keys_note_one_account(other: Any) -> None:
    user_id = account(other)
    for _ in range(20):
        key(other, user_id)
    before = now()
    other.execute("UPDATE service_keys SET revoked_at = now() WHERE user_id = %s", [user_id])
    other.execute("DELETE FROM service_keys WHERE user_id = %s", [user_id])
    other.execute("COMMIT")
    assert now(before).changed == [user_id]


def test_emptied_keys_count_as_a_change_of_everyone(other: Any) -> None:
    """Undone here, because other tests have keys in it."""
    other.execute("TRUNCATE service_keys")
    other.execute("SELECT user_id FROM account_changes ORDER BY xid DESC LIMIT 1")
    assert other.fetchone() == (changes.EVERYONE,)


def test_what_no_caller_shows_is_no_change(other: Any) -> None:
    """A login may renew a hash, and many accounts register: neither costs the others a query."""
    user_id = account(other)
    before = now()
    other.execute("UPDATE users SET password_hash = 'x', nombre = 'Eva' WHERE id = %s", [user_id])
    other.execute("UPDATE users SET is_active = is_active WHERE id = %s", [user_id])
    account(other)
    other.execute(DISABLE, [user_id])
    other.execute("ROLLBACK")
    assert now(before).changed == []


def test_transactions_that_commit_out_of_order_are_all_seen(postgres: dev.Postgres) -> None:
    """The first of two takes its number first and commits last, some looks later.

    Guard: the snapshot in ``LOOK``. Red with ``xid >= pg_snapshot_xmax`` of the look before.
    """
    with session(postgres) as first, session(postgres) as second:
        early, late = account(first), account(second)
        first.execute(DISABLE, [early])
        before = now()
        second.execute(DISABLE, [late])
        second.execute("COMMIT")
        between = now(before)
        assert between.changed == [late]
        # Once more: what was seen is not told again, however long a transaction stays open.
        later = now(between)
        assert later.changed == []
        first.execute("COMMIT")
        assert now(later).changed == [early]


def test_a_transaction_may_take_its_number_long_before_the_change(postgres: dev.Postgres) -> None:
    with session(postgres) as first, session(postgres) as second:
        early, late = account(first), account(second)
        first.execute("SELECT pg_current_xact_id()")
        second.execute(DISABLE, [late])
        second.execute("COMMIT")
        before = now()
        first.execute(DISABLE, [early])
        first.execute("COMMIT")
        assert now(before).changed == [early]


def test_as_many_changes_as_can_be_listed_are_listed(other: Any) -> None:
    name = crowd(other, MANY - 1)
    before = now()
    other.execute("UPDATE users SET is_active = false WHERE nombre = %s", [name])
    other.execute("COMMIT")
    assert len(now(before).changed or []) == MANY - 1


@pytest.mark.parametrize("act", ["UPDATE users SET is_active = false", "DELETE FROM users"])
def test_more_changes_count_as_one_of_everyone(act: str, other: Any) -> None:
    """They take neither room nor time. Guard: ``MANY``, in ``LOOK`` and in the triggers."""
    name = crowd(other, 3 * MANY)
    before = now()
    other.execute(f"{act} WHERE nombre = %s", [name])
    other.execute(
        "SELECT count(*) FROM account_changes WHERE xid = pg_current_xact_id()::text::bigint"
    )
    assert other.fetchone() == (MANY,)
    other.execute("COMMIT")
    after = now(before)
    assert after.changed is None
    assert now(after).changed == []


def test_a_role_that_may_change_accounts_needs_no_other_right(other: Any) -> None:
    """As one that an operator made for another program. Guard: ``SECURITY DEFINER``."""
    user_id = account(other)
    other.execute("CREATE ROLE clerk; GRANT SELECT, UPDATE ON users TO clerk; SET ROLE clerk")
    other.execute(DISABLE, [user_id])
    other.execute("RESET ROLE; SELECT count(*) FROM account_changes WHERE user_id = %s", [user_id])
    assert other.fetchone() == (1,)


def test_an_emptied_table_counts_as_a_change_of_everyone(other: Any) -> None:
    """Undone here, because other tests have accounts in it."""
    other.execute("TRUNCATE users CASCADE")
    other.execute("SELECT user_id FROM account_changes ORDER BY xid DESC LIMIT 1")
    assert other.fetchone() == (changes.EVERYONE,)


def notes() -> int:
    with db.engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM account_changes")) or 0)


def fill(cursor: Any, count: int) -> None:
    """Change accounts until there are so many notes."""
    while (missing := count - notes()) > 0:
        name = crowd(cursor, min(missing, MANY - 1))
        cursor.execute("UPDATE users SET is_active = false WHERE nombre = %s", [name])
        cursor.execute("COMMIT; BEGIN")
    assert notes() == count


def test_the_table_of_notes_stays_small_and_hides_no_change(postgres: dev.Postgres) -> None:
    """Guards: the end of the trigger, and ``EVERYONE`` in ``look``."""
    with session(postgres) as slow, session(postgres) as one, session(postgres) as last:
        waiting, noted, another = account(slow), account(one), account(last)
        fill(one, 4999)
        before = now()
        slow.execute(DISABLE, [waiting])  # It stays open, and nobody waits for it.
        one.execute(DISABLE, [noted])
        one.execute("COMMIT")
        last.execute(DISABLE, [another])
        last.execute("COMMIT")
        assert notes() == 2
        after = now(before)
        assert after.changed is None
        slow.execute("COMMIT")
        assert now(after).changed == [waiting]


def test_a_repeatable_read_is_not_ended_by_notes_that_are_gone(postgres: dev.Postgres) -> None:
    """Guard: the isolation that the trigger asks for. Another client tidied the notes meanwhile."""
    with session(postgres) as careful, session(postgres) as one:
        user_id, another = account(careful), account(one)
        fill(one, 5000)
        careful.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM users")
        one.execute(DISABLE, [another])
        one.execute("COMMIT")
        before = now()
        careful.execute(DISABLE, [user_id])
        careful.execute("COMMIT")
        assert now(before).changed == [user_id]


def test_two_that_tidy_the_notes_do_not_wait_for_each_other(postgres: dev.Postgres) -> None:
    """Guard: ``SKIP LOCKED``. The first has deleted the notes, and stays open."""
    with session(postgres) as first, session(postgres) as second:
        user_id, another = account(first), account(second)
        fill(first, 5000)
        before = now()
        first.execute(DISABLE, [user_id])
        second.execute("SET LOCAL lock_timeout = '1s'")
        second.execute(DISABLE, [another])
        second.execute("COMMIT")
        between = now(before)
        assert between.changed == [another]
        first.execute("COMMIT")
        assert now(between).changed is None


@pytest.mark.parametrize(
    "act",
    [
        "ALTER TABLE users DISABLE TRIGGER account_changes_update",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "ALTER TABLE users RENAME TO elsewhere",
        "ALTER TABLE service_keys DISABLE TRIGGER account_changes_update",
        "ALTER TABLE service_keys ENABLE REPLICA TRIGGER account_changes_truncate",
        "DROP TABLE service_keys",
        "DROP TRIGGER account_changes_delete ON users",
        "SET LOCAL allow_system_table_mods = on;"
        "INSERT INTO pg_subscription_rel VALUES (1, 'users'::regclass, 'r')",
        "SET LOCAL allow_system_table_mods = on;"
        "INSERT INTO pg_subscription_rel VALUES (1, 'service_keys'::regclass, 'r')",
    ],
)
def test_without_the_triggers_no_look_tells_anything(act: str, other: Any) -> None:
    """Guard: the conditions of ``LOOK``. As in the transaction itself, which is undone."""
    other.execute(act)
    other.execute(str(changes.LOOK.compile(dialect=db.engine.dialect)), {"since": None, "many": 1})
    assert other.fetchall() == []


@pytest.mark.parametrize("table", changes.TABLES)
def test_triggers_that_were_off_meanwhile_end_the_history(
    postgres: dev.Postgres, table: str
) -> None:
    """Guard: their row versions in ``LOOK``."""
    before = now()
    for of in ("update", "delete", "truncate"):
        query(postgres.url, f"ALTER TABLE {table} DISABLE TRIGGER account_changes_{of}")
        query(postgres.url, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER account_changes_{of}")
    after = look(before)
    assert after
    assert not after.follows(before)


def test_a_number_that_goes_back_ends_the_history() -> None:
    """As after a crash of the system that lost commits. Guard: ``next_xid`` in ``follows``."""
    before = now()
    later = before._replace(snapshot=f"{before.next_xid + 9}:{before.next_xid + 9}:")
    assert not now().follows(later)
    assert now().follows(before)
