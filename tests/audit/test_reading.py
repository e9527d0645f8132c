"""``flask audit``: which events it shows, in which order, and how."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.audit.everything import REASON, Everything
from tests.audit.table import fill, newest
from tests.stage.commands import refusal
from tests.stage.keys import new_key
from tests.stage.people import PASSWORD, Person, enrol
from tests.stage.queries import execute
from tokenservice.audit import operators, reading

Run = Callable[..., str]


@pytest.fixture
def lines(run: Run) -> Callable[..., list[dict[str, Any]]]:
    """The events that ``flask audit --json …`` shows."""

    def shown(*words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in run("audit", "--json", *words).splitlines()]

    return shown


Lines = Callable[..., list[dict[str, Any]]]


def test_the_events_of_a_token_a_key_and_an_account(everything: Everything, lines: Lines) -> None:
    ids = everything.ids
    told = [event["action"] for event in lines("--token", ids["token"])]
    assert told == ["token.created", "token.revoked"]
    told = [event["action"] for event in lines("--key", ids["made"])]
    assert told == ["key.created", "key.changed", "key.revoked"]
    by_id = lines("--account", everything.person.id)
    assert by_id == lines("--account", everything.person.correo)
    about = {event["account_id"] for event in by_id}
    assert about == {everything.person.id}
    assert {"account.registered", "token.created", "session.reused"} <= {
        event["action"] for event in by_id
    }
    assert lines("--account", everything.person.id, "--key", ids["made"]) == []
    assert lines("--token", ids["made"]) == []


def test_an_erased_account_leaves_events_whose_ids_lead_to_nobody(
    app: Flask, client: FlaskClient, run: Run, lines: Lines
) -> None:
    person = enrol(client.post)
    erase = {"json": {"password": PASSWORD}, "headers": person.headers}
    assert client.post("/auth/me/erase", **erase).status_code == 204
    told = lines("--account", person.id, "--names")
    assert told[0]["action"] == "account.registered"
    assert told[-1]["action"] == "account.erased"
    assert {event["account_correo"] for event in told} == {None}
    for table in ("users", "sessions", "service_keys", "audit_events"):
        left = execute(app, f"SELECT string_agg(t::text, '') AS it FROM {table} t")  # noqa: S608
        assert person.correo not in (left[0]["it"] or "")
    assert "no account" in refusal(
        app.test_cli_runner().invoke(args=["audit", "--account", person.correo])
    )


def test_names_are_looked_up_on_request(
    client: FlaskClient, person: Person, run: Run, lines: Lines
) -> None:
    made = new_key(client.post, person)
    asked = ("--key", made["id"])
    assert person.correo not in run("audit", *asked)
    assert person.id in run("audit", *asked)
    named = run("audit", *asked, "--names")
    assert f"account {person.correo}" in named
    assert person.id not in named
    [event] = lines(*asked, "--names")
    assert (event["actor_correo"], event["account_correo"]) == (person.correo, person.correo)
    assert "actor_correo" not in lines(*asked)[0]


def test_people_get_columns(everything: Everything, run: Run) -> None:
    head, line, *_ = run("audit", "--key", everything.ids["made"]).splitlines()
    assert head.split("  ")[0] == "time (UTC)"
    for title, text in {
        "action": "key.created",
        "target": f"key {everything.ids['made']}",
        "by": "operator ",
        "more": f'of={everything.ids["operated"]} scopes=token:read reason="{REASON}"',
    }.items():
        assert line[head.index(title) :].startswith(text)
    assert line[10] == " "


def test_since_is_a_time_or_so_long_ago(app: Flask, lines: Lines) -> None:
    ages = {"192.0.2.19": 9, "192.0.2.16": 6, "192.0.2.10": 0}
    for address, days in ages.items():
        fill(app, 1, days, address)

    def since(time: str) -> list[int]:
        return [
            ages[event["address"]] for event in lines("--since", time) if event["address"] in ages
        ]

    assert [since(time) for time in ("30m", "1h", "7d", "2w")] == [[0], [0], [6, 0], [9, 6, 0]]
    [row] = execute(app, "SELECT now() - interval '8 days' AS at")
    for time in (row["at"].isoformat(), row["at"].date().isoformat()):
        assert since(time) == [6, 0]
    for wrong in ("soon", "1", "1y", "999999w", "2026-13-01"):
        message = refusal(app.test_cli_runner().invoke(args=["audit", "--since", wrong]))
        assert "is not 30m, 1h, 7d" in message


def test_the_newest_is_last_and_memory_is_bounded(app: Flask, run: Run) -> None:
    """Guard: ``yield_per``. In memory, these events are more than ten megabytes."""
    fill(app, 10_000, days=0)
    with app.app_context():
        tracemalloc.start()
        try:
            last, count = None, 0
            for event in reading.stored(reading.Question()):
                assert last is None or event.at >= last
                last, count = event.at, count + 1
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count >= 10_000
    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("ana@example.com left", "by their ids"),
        ("key osk_" + "a" * 40, "a secret"),
        ("a\nb", "plain text"),
        ("x" * 501, "at most 500"),
    ],
)
def test_a_reason_names_nobody(app: Flask, person: Person, reason: str, why: str) -> None:
    """Guard: ``operators.keep_reason``."""
    before = newest(app)
    words = ["users", "disable", person.correo, "--reason", reason]
    assert why in refusal(app.test_cli_runner().invoke(args=words))
    assert newest(app) == before


def test_an_operator_is_named_as_before_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ana")
    assert operators.name() == "ana"
    monkeypatch.setenv("SUDO_USER", "a\x1bna")
    assert operators.name() != "a\x1bna"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_001)
    assert operators.name() == "uid 4000000001"


def test_bytes_that_are_no_text_are_refused(app: Flask) -> None:
    for option in ("--account", "--token", "--since"):
        result: click.testing.Result = app.test_cli_runner().invoke(
            args=["audit", option, "\udcff"]
        )
        assert refusal(result)


# The lines of a trail, among the events.


@pytest.fixture
def trail(everything: Everything, tmp_path: Path) -> Path:
    """A trail of one token that the account of ``everything`` made, beside lines of the log."""
    of_token = {
        "stream": "audit",
        "token_id": "0" * 18,
        "issued_by": everything.person.id,
        "issued_with": everything.ids["made"],
        "request_id": "r",
        "client_address": "192.0.2.7",
    }
    told = (
        {"event": "token.created", "user_id": everything.person.id},
        {"event": "token.validated", "user_id": "another", "key_id": "1" * 18},
        {"event": "token.replayed", "user_id": "a third", "code": "token_already_used"},
    )
    lines = [
        json.dumps(of_token | line | {"timestamp": f"2100-01-01T00:00:0{number}.5Z", "status": 200})
        for number, line in enumerate(told)
    ]
    login = {"stream": "audit", "event": "auth.login_failed", "attempted_id": everything.person.id}
    login |= {"request_id": "s", "timestamp": "2000-01-01T00:00:00Z", "status": 401}
    log = json.dumps({"event": "token.created", "token_id": "0" * 18})
    torn = lines[0][:60]
    path = tmp_path / "audit.log"
    path.write_text("\n".join([json.dumps(login), log, torn, *(f"app-1  | {x}" for x in lines)]))
    return path


def test_the_lines_of_a_trail_stand_among_the_events(
    everything: Everything, lines: Lines, trail: Path
) -> None:
    """With the prefix of docker compose too. What is torn, or no line of a trail, is nothing."""
    found = lines("--token", "0" * 18, "--trail", str(trail))
    told = [(line["action"], line["actor_id"], line["address"]) for line in found]
    assert told == [
        ("token.created", everything.person.id, "192.0.2.7"),
        ("token.validated", "another", "192.0.2.7"),
        ("token.replayed", "a third", "192.0.2.7"),
    ]
    assert [line["facts"].get("code") for line in found] == [None, None, "token_already_used"]
    by_account = lines("--account", everything.person.id, "--trail", str(trail))
    assert by_account[0]["action"] == "auth.login_failed"
    assert [line["action"] for line in by_account[-3:]] == [line["action"] for line in found]
    assert by_account[1:-3] == lines("--account", everything.person.id)
    assert lines("--key", "1" * 18, "--trail", str(trail)) == found[1:2]
    assert lines("--key", everything.ids["made"], "--trail", str(trail))[-3:] == found
    since = lines("--since", "2100-01-01T00:00:01", "--trail", str(trail))
    assert since == found[1:]
    limits = "--since", "2100-01-01T00:00:01", "--until", "2100-01-01T00:00:02"
    assert lines(*limits, "--trail", str(trail)) == found[1:2]
    assert lines("--until", "2000-01-01") == []


def test_a_trail_is_shown_for_people(run: Run, trail: Path) -> None:
    shown = run("audit", "--token", "0" * 18, "--trail", str(trail))
    assert "token.validated      token 000000000000000000" in shown
    assert "code=token_already_used" in shown


def test_a_trail_that_cannot_be_read_is_refused(app: Flask, tmp_path: Path) -> None:
    words = ["audit", "--trail", str(tmp_path / "none")]
    assert "No such file" in refusal(app.test_cli_runner().invoke(args=words))
    alone = app.test_cli_runner().invoke(args=["audit", "--trail"])
    assert "audit_path is not set" in refusal(alone)
