"""Everything that an account and an operator can change, done once, with the events of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from tests.audit.table import Row, events, newest
from tests.stage.commands import output
from tests.stage.keys import new_key
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.sessions import Login

NEW_PASSWORD = "cinco tristes tigres en un trigal"
#: In each text that a person or an operator may choose, and in no event.
CANARY = "canario"
REASON = "ticket 4711"


@dataclasses.dataclass
class Everything:
    """What was done, its events, and what must not stand in them."""

    app: Flask
    client: FlaskClient
    person: Person
    rows: list[Row] = dataclasses.field(default_factory=list)
    ids: dict[str, str] = dataclasses.field(default_factory=dict)
    canaries: set[str] = dataclasses.field(default_factory=set)

    def of(self, action: str, **columns: Any) -> list[Row]:
        """The events of an action that have these values."""
        return [
            row
            for row in self.rows
            if row["action"] == action
            and all(str(row[name]) == str(value) for name, value in columns.items())
        ]

    def one(self, action: str, **columns: Any) -> Row:
        [row] = self.of(action, **columns)
        return row

    def run(self, *words: str, text: str = f"{PASSWORD}\n") -> str:
        return output(self.app.test_cli_runner().invoke(args=list(words), input=text))

    def secret(self, text: str) -> str:
        self.canaries.add(text)
        return text


def everything(app: Flask, folder: Path) -> Everything:
    before = newest(app)
    client = app.test_client()
    done = Everything(app, client, enrol(client.post))
    calls(done)
    commands(done, folder)
    done.rows = events(app, before)
    done.canaries |= {CANARY, "@example", PASSWORD, NEW_PASSWORD, "argon2"}
    return done


def calls(done: Everything) -> None:
    """Each call that changes an account, a session or a key."""
    post, person = done.client.post, done.person

    def login(password: str = PASSWORD) -> Login:
        opened = Login.of(post, person, password)
        done.secret(opened.refresh_token)
        done.secret(opened.access_token)
        return opened

    for path in ("logout", "logout-all"):
        assert login().act(path).status_code == 204
    here, there = login(), login()
    done.ids["ended"] = there.id
    gone = done.client.delete(f"/auth/sessions/{there.id}", headers=here.headers)
    assert gone.status_code == 204
    stolen = login()
    done.ids["reused"] = stolen.id
    stolen.refresh().refresh()
    assert stolen.present().status_code == 401
    shown = login()
    done.ids["shown"] = shown.id
    assert post("/auth/revoke", data={"token": shown.refresh_token}).status_code == 200
    login()
    change = {"old": PASSWORD, "new": NEW_PASSWORD}
    assert here.act("password", **change).status_code == 204
    token = json.loads(done.run("users", "reset-token", person.correo, "--reason", REASON))
    done.ids["reset"] = token["id"]
    reset = {"token": done.secret(token["token"]), "password": PASSWORD}
    assert post("/auth/password/reset", json=reset).status_code == 204
    owner = dataclasses.replace(person, headers=login().headers)
    for name in ("one", "two"):
        key = new_key(
            post, owner, name=CANARY, scopes=["token:read", "token:create"], purposes=[CANARY]
        )
        done.ids[name] = key["id"]
        done.secret(key["key"])
        for _ in range(2):  # A repeat changes nothing.
            if name == "one":
                path = f"/auth/keys/{key['id']}"
                assert done.client.delete(path, headers=owner.headers).status_code == 204
            else:
                assert post("/auth/revoke", data={"token": key["key"]}).status_code == 200
    parting = enrol(post)
    done.ids["erased"] = parting.id
    erased = post("/auth/me/erase", json={"password": PASSWORD}, headers=parting.headers)
    assert erased.status_code == 204


def commands(done: Everything, folder: Path) -> None:
    """Each command that changes anything, with a reason."""

    def run(*words: str, **options: str) -> str:
        return done.run(*words, "--reason", REASON, **options)

    correo = f"{CANARY}.{new_correo()}"
    new = ("users", "create", correo, "--nombre", f"Ana {CANARY}", "--password-stdin")
    account = json.loads(run(*new))["id"]
    run(*new, "--if-missing")
    done.ids["operated"] = account
    seed = folder / "people.jsonl"
    people = [{"nombre": CANARY, "correo": new_correo(), "password": PASSWORD} for _ in "abc"]
    seed.write_text("".join(f"{json.dumps(one)}\n" for one in people))
    for _ in range(2):
        run("users", "seed", str(seed))
    run("users", "set-password", correo, "--password-stdin")
    run("users", "disable", correo)
    run("users", "enable", correo)
    run("users", "export", correo)
    key = json.loads(run("keys", "create", correo, "--name", CANARY, "--scope", "token:read"))
    done.ids["made"] = key["id"]
    done.secret(key["key"])
    run("keys", "limit", key["id"], "--create", "7 per minute")
    for _ in range(2):
        run("keys", "revoke", key["id"])
    terms = ("--purpose", "pay", "--subject", CANARY, "--audience", done.person.correo)
    token = json.loads(run("tokens", "create", correo, "--expires-in", "600", *terms))
    done.ids["token"] = token["id"]
    done.secret(token["token"])
    run("tokens", "revoke", token["id"])
    run("tokens", "revoke-all", correo, "--subject", CANARY)
    run("users", "erase", correo, "--yes")
    run("sessions", "purge")
    run("keys", "purge")
    run("audit", "purge")
