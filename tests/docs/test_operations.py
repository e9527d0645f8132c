"""The commands of ``flask`` in the pages: those of docs/operations.md, in both languages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from flask import Flask

from tests.docs.pages import CODE, ENGLISH_ONLY, TWINS, either_language, read, table
from tests.stage.commands import output
from tests.stage.people import PASSWORD, Person, new_correo

PAGE = "docs/operations.md"
#: Of docs/operations/, test_operations_pages.py runs the commands, with what stands around them.
PAGES = [
    *(page for page in (*TWINS, *TWINS.values()) if "/operations/" not in page),
    *("docs/operations/incident.md", "docs/es/operations/incident.md"),
    *(*ENGLISH_ONLY, "CONTRIBUTING.md", "deploy/README.md"),
]
COMMAND = re.compile(
    r"\bflask ((?:db|users|keys|sessions|tokens|capacity) [a-z-][^`\n]*|audit(?: [a-z-][^`\n]*)?)"
)


def calls() -> set[str]:
    """Every call in the pages, and those of the table once more with each of their options."""
    found = {call.strip() for page in PAGES for call in COMMAND.findall(read(page))}
    for called, text in table(read(PAGE), "`flask db upgrade`"):
        for command in COMMAND.findall(called):
            options = [code for code in CODE.findall(text) if code.startswith("-")]
            if command.startswith("capacity"):  # All go together.
                options = [" ".join(options)]
            found |= {f"{command} {option}" for option in options}
    # The one drops the tables of other tests (tests/postgres/test_migrations.py runs it), and the
    # other writes into migrations/.
    return {call for call in found if not call.startswith(("db downgrade", "db revision"))}


def words(call: str, values: dict[str, str]) -> list[str]:
    """The arguments of a call, with values for what a page writes in capitals.

    FILE gives way to an option that stands in its place.
    """
    if " --count" in call or call.endswith(" -"):
        call = call.replace(" FILE", "")
    return [values.get(word, word) for word in call.split()]


@pytest.mark.parametrize("call", sorted(calls()))
def test_a_call_of_the_pages_ends_with_0(
    app: Flask, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """One that needs a password reads it from standard input."""

    def run(*words: str, text: str = "") -> str:
        return output(app.test_cli_runner().invoke(args=words, input=text))

    monkeypatch.chdir(tmp_path)
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
    text = PASSWORD
    if call.startswith("users seed"):
        lines = json.dumps(account)
        (tmp_path / "people.jsonl").write_text(lines)
        text = lines if call.endswith(" -") else text
    elif call.startswith(("users create", "users set-password")):
        call += " --password-stdin"
    elif call == "users erase CORREO":
        text = "y"
    values = {"NOMBRE": "Ana", "FILE": "people.jsonl", "N": "60", "P": "pay", "S": "active"}
    values |= dict.fromkeys(("CORREO", "A"), person.correo)
    values |= {"NAME": "billing", "SCOPE": "token:read", "C": "192.0.2.0/24"}
    values |= {"RATE": "60 per minute", "TIME": "1h"}
    values |= dict.fromkeys(("T", "/var/log/token-service/audit.log"), "audit.log")
    values |= {"ATTEMPTED_ID": person.id}
    if call.startswith("audit"):
        (tmp_path / "audit.log").touch()
        values["FILE"] = "audit.log"
    values["URL"] = "https://app.example.com/reset"
    values["1000"] = "10"  # A thousand hashes take long.
    if call.startswith("users create"):
        values["CORREO"] = new_correo()
    if " KEY" in call:
        new = ("keys", "create", person.correo, "--name", "a", "--scope", "token:read")
        values["KEY"] = json.loads(run(*new))["id"]
    if " ID" in call or " X" in call:
        made = run("tokens", "create", person.correo, "--expires-in", "600")
        values["ID"] = values["X"] = json.loads(made)["id"]
    run(*words(call, values), text=text)


def test_calls_are_found_in_the_pages() -> None:
    """Without them the test above would prove nothing."""
    assert len(calls()) > 20
    assert {
        "users list",
        "keys list CORREO",
        "tokens create CORREO --audience A",
        "users seed FILE -",
    } <= calls()


@either_language(PAGE)
def test_commands_exist(page: str, app: Flask) -> None:
    """A command or option that is added to these groups, or dropped, turns this red."""
    written = read(page).partition("\n| `flask db upgrade` |")[2]
    known: set[str] = set()
    for name in ("users", "keys", "sessions", "tokens", "audit"):
        group = app.cli.commands[name]
        assert isinstance(group, click.Group)
        assert set(re.findall(rf"flask {name} ([a-z][a-z-]*)[ `]", written)) == set(group.commands)
        for command in (group, *group.commands.values()):
            known.update(*(parameter.opts for parameter in command.params))
    known.update(*(parameter.opts for parameter in app.cli.commands["capacity"].params))
    assert set(re.findall(r"--[a-z-]+", written)) == {name for name in known if name[:2] == "--"}
