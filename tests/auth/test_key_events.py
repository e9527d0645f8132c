"""The lines of the log about service keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.stage.keys import bearer, new_key
from tests.stage.lines import copied
from tests.stage.people import Person
from tests.stage.waiting import until
from tokenservice.auth.rights import KeyText
from tokenservice.telemetry import logs


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The lines of the log, as they are written."""
    return copied(monkeypatch, json.loads)


def test_each_event_of_a_key_names_it_and_no_secret(
    client: FlaskClient, person: Person, other: Person, lines: list[dict[str, Any]]
) -> None:
    """ASVS 5.0 V16.3.1. A refusal says in the log why, which the caller does not learn."""
    made = new_key(client.post, person)
    assert (lines[-1]["event"], lines[-1]["key_id"]) == ("key.created", made["id"])
    assert lines[-1]["user_id"] == person.id

    client.post("/token/create", headers=bearer(made["key"]))
    assert (lines[-1]["event"], lines[-1]["key_id"]) == ("token.created", made["id"])

    reads = new_key(client.post, person, scopes=["token:read"])
    client.post("/token/create", headers=bearer(reads["key"]))
    assert (lines[-1]["code"], lines[-1]["key_id"]) == ("insufficient_scope", reads["id"])

    away = new_key(client.post, person, cidrs=["192.0.2.0/24"])
    unknown = KeyText.new()
    for key_id, text, why in (
        (away["id"], away["key"], "network"),
        (unknown.id, str(unknown), "unknown"),
        (made["id"], str(KeyText(made["id"], unknown.secret)), "unknown"),
        (None, made["key"][:-1], "malformed"),
    ):
        client.post("/token/create", headers=bearer(text))
        last = lines[-1]
        assert (last["event"], last["code"]) == ("key.refused", "key_invalid")
        assert (last.get("key_id"), last["why"]) == (key_id, why)

    form = {"grant_type": "client_credentials", "client_secret": made["key"]}
    client.post("/auth/token", data=form)
    assert (lines[-1]["event"], lines[-1]["key_id"]) == ("key.token", made["id"])
    assert lines[-1]["user_id"] == person.id

    client.post("/auth/revoke", data={"token": reads["key"]})
    assert (lines[-1]["event"], lines[-1]["key_id"]) == ("key.revoked", reads["id"])
    client.delete(f"/auth/keys/{made['id']}", headers=person.headers)
    assert (lines[-1]["event"], lines[-1]["key_id"]) == ("key.revoked", made["id"])

    def is_revoked() -> bool:
        client.get("/token", headers=bearer(made["key"]))
        return lines[-1].get("why") == "revoked"

    until(is_revoked, seconds=3)
    written = json.dumps(lines)
    for one in (made, reads, away):
        assert KeyText.parse(one["key"]).secret not in written


def test_a_key_in_a_line_is_blanked(lines: list[dict[str, Any]]) -> None:
    """Guards: ``SECRET_TEXTS`` and ``SECRET_PARTS`` in logs.py."""
    text = str(KeyText.new())
    for shown in (text, text[:-1], f"x{text}y"):
        line = logs.render(None, "", {"event": "x", "why": shown})
        assert KeyText.parse(text).secret[:20] not in line
    assert logs.redact(None, "", {"client_secret": "x"}) == {"client_secret": "[redacted]"}
