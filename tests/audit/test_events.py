"""Each change has its event: who, what, from where, why; and nothing else is in it."""

from __future__ import annotations

import ast
import getpass
import json
import re
import typing

import pytest

from tests.audit.everything import CANARY, REASON, Everything
from tests.audit.table import Row
from tests.stage.paths import ROOT
from tokenservice.audit.events import Action

#: Functions that commit a change without an event of their own: the same password under another
#: cost, and the batches of a purge, whose event the first of them commits.
SILENT = {"rehash", "in_batches"}


def test_each_action_was_recorded(everything: Everything) -> None:
    """All but those of migrations, and those that have tests of their own."""
    apart = {"database.upgraded", "database.downgraded"}
    assert {row["action"] for row in everything.rows} == set(typing.get_args(Action)) - apart


def by_the_account(row: Row, account: str) -> bool:
    return (
        (row["actor_kind"], row["actor_id"]) == ("account", account)
        and row["account_id"] == account
        and row["address"] == "127.0.0.1"
        and len(row["request_id"]) == 32
        and row["reason"] is None
    )


def test_a_call_is_by_its_account(everything: Everything) -> None:
    """Also one without a JWT: who registers, logs in, or shows a text of its own."""
    person, ids = everything.person.id, everything.ids
    [registered] = everything.of("account.registered", account_id=person)
    assert by_the_account(registered, person)
    assert (registered["target_kind"], registered["target_id"]) == ("account", person)
    for action in ("session.opened", "password.changed", "password.reset"):
        assert everything.of(action, account_id=person)
        assert all(by_the_account(row, person) for row in everything.of(action, account_id=person))
    for name, why in (("ended", "ended"), ("shown", "revoked")):
        row = everything.one("session.ended", target_id=ids[name])
        assert by_the_account(row, person)
        assert (row["target_kind"], row["facts"]) == ("session", {"why": why})
    erased = everything.one("account.erased", account_id=ids["erased"])
    assert by_the_account(erased, ids["erased"])
    ends = {row["facts"]["why"] for row in everything.of("session.ended")}
    assert ends == {"logout", "ended", "revoked", "password", "reset", "erased"}


def test_a_reuse_is_by_nobody_known(everything: Everything) -> None:
    """Its presenter may be the owner of the session or a thief. Guard: ``of_call``."""
    row = everything.one("session.reused", target_id=everything.ids["reused"])
    assert (row["actor_kind"], row["actor_id"]) == ("service", None)
    assert (row["account_id"], row["address"]) == (everything.person.id, "127.0.0.1")


def test_a_key_that_is_revoked_by_its_text_is_named(everything: Everything) -> None:
    """And a repeat has no event. Guard: ``revoked_at.is_(None)`` in ``end_key``."""
    person, ids = everything.person.id, everything.ids
    for name in ("one", "two"):
        made = everything.one("key.created", target_id=ids[name])
        assert by_the_account(made, person)
        assert made["facts"] == {"scopes": ["token:read", "token:create"]}
        revoked = everything.one("key.revoked", target_id=ids[name])
        assert by_the_account(revoked, person)
        assert revoked["key_id"] == (None if name == "one" else ids["two"])


def test_a_command_is_by_its_operator_with_a_reason(everything: Everything) -> None:
    account, ids = everything.ids["operated"], everything.ids
    rows = [row for row in everything.rows if row["actor_kind"] == "operator"]
    for row in rows:
        assert row["actor_id"] == getpass.getuser()
        assert row["reason"] == REASON
        assert row["address"] is row["request_id"] is row["key_id"] is None
    told = [(row["action"], row["target_kind"], row["target_id"]) for row in rows]
    assert told == [
        ("token.created", "token", ids["reset"]),
        ("account.created", "account", account),
        ("accounts.seeded", None, None),
        ("password.changed", "account", account),
        ("account.disabled", "account", account),
        ("account.enabled", "account", account),
        ("account.exported", "account", account),
        ("key.created", "key", ids["made"]),
        ("key.changed", "key", ids["made"]),
        ("key.revoked", "key", ids["made"]),
        ("token.created", "token", ids["token"]),
        ("token.revoked", "token", ids["token"]),
        ("token.revoked_all", "account", account),
        ("account.erased", "account", account),
        ("sessions.purged", None, None),
        ("keys.purged", None, None),
        ("audit.purged", None, None),
    ]
    facts = {row["action"]: row["facts"] for row in rows if row["facts"]}
    assert facts["accounts.seeded"] == {"created": 3}
    assert facts["key.changed"] == {"limits": {"create": "7 per minute"}}
    assert facts["token.created"] == {"purpose": "pay"}
    assert facts["token.revoked_all"] == {"only": ["subject"]}
    assert facts["keys.purged"] == {"older_than_days": 90}
    owners = {row["account_id"] for row in rows if row["target_kind"] in ("key", "token")}
    assert owners == {account, everything.person.id}


def test_no_event_has_a_secret_a_name_or_an_address_of_an_account(everything: Everything) -> None:
    written = json.dumps(everything.rows, default=str, ensure_ascii=False)
    assert len(everything.canaries) > 20
    assert not [text for text in everything.canaries if text in written]
    assert not re.search(r"\bAna\b", written)  # An id may have the letters.
    assert "@" not in written
    assert CANARY in everything.canaries


@pytest.mark.parametrize("room", ["auth", "token"])
def test_every_commit_has_an_event(room: str) -> None:
    """A change that is added without one turns this red. ``end`` records each session."""
    for path in (ROOT / "tokenservice" / room).glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in SILENT:
                names = {
                    ast.unparse(node.func)
                    for node in ast.walk(function)
                    if isinstance(node, ast.Call)
                }
                if "db.session.commit" in names:
                    events = {"events.record", "sessions.end", "end"}
                    assert names & events, f"{path.name}: {function.name}"
