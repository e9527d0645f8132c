"""The audit trail of calls: a line for each response, on disk before it, and no secret in it."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask

from tests.stage.keys import bearer, new_key
from tests.stage.people import PASSWORD, WRONG_PASSWORD, Person, enrol
from tests.stage.queries import execute
from tests.stage.service import Service
from tests.stage.waiting import until

Serve = Callable[..., Service]
#: A client behind a proxy, and how each setting shows it.
CLIENTS = {
    "203.0.113.77": {"whole": "203.0.113.77", "network": "203.0.113.0/24", "none": None},
    "2001:db8:7::77": {"whole": "2001:db8:7::77", "network": "2001:db8:7::/64", "none": None},
}
CLIENT = "203.0.113.77"


class Audited:
    """A service behind one trusted proxy, its trail in a file, and a person with a key.

    Responses to its calls are read after their lines, without a wait.
    """

    def __init__(self, service: Service, path: Path) -> None:
        self.service, self.path = service, path
        self.http = httpx.Client(
            base_url=service.url, timeout=30, headers={"X-Forwarded-For": CLIENT}
        )
        self.person = enrol(self.http.post)
        self.key = new_key(self.http.post, self.person)
        self.as_key = bearer(self.key["key"])
        self.call("/token/create", {})  # From the second call on it takes the direct door.

    def call(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The body of a response, and its lines in the trail at the moment when it is there."""
        request_id = secrets.token_hex(16)
        headers = {**(headers or self.as_key), "X-Request-ID": request_id}
        method = more.pop("method", "POST")
        response = self.http.request(method, path, json=body, headers=headers, **more)
        lines = [line for line in self.lines() if line["request_id"] == request_id]
        for line in lines:
            assert line["status"] == response.status_code
            assert line["stream"] == "audit"
            assert line["timestamp"].endswith("Z")
        return (response.json() if response.content else {}), lines

    def create(self) -> str:
        """The id of a new token."""
        response = self.http.post("/token/create", headers=self.as_key)
        assert response.status_code == 201
        return str(response.json()["id"])

    def lines(self) -> list[dict[str, Any]]:
        """The whole ones, as the disk may have been full."""
        written = self.path.read_text().splitlines()
        return [json.loads(line) for line in written if line.endswith("}")]


@pytest.fixture(scope="module")
def audited(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    path = tmp_path_factory.mktemp("audit") / "audit.log"
    settings = {"audit_log": "file", "audit_path": path, "trusted_proxies": 1}
    with serve(web_concurrency=2, log_level="error", **settings) as service:
        running = Audited(service, path)
        with contextlib.closing(running.http):
            yield running


def test_each_verb_has_its_line_before_its_response(audited: Audited) -> None:
    """Whatever the level of the log. Guard: ``write_at_once`` in audit.py."""
    terms = {"purpose": "pay", "issued_by": [audited.person.id]}
    always = {
        "purpose": "pay",
        "issued_by": audited.person.id,
        "user_id": audited.person.id,
        "key_id": audited.key["id"],
        "client_address": CLIENT,
    }
    batch, lines = audited.call("/token/batch", {"count": 5, "purpose": "pay", "expires_in": 60})
    assert [line["token_id"] for line in lines] == [token["id"] for token in batch["tokens"]]
    assert {line["event"] for line in lines} == {"token.created"}
    used, freed, kept, by_text, by_id = batch["tokens"]

    def check(event: str, token: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        [line] = lines
        assert (line["event"], line["token_id"]) == (event, token["id"])
        assert {name: line.get(name) for name in always} == always

    for line in lines:
        assert always.items() <= line.items()
        assert line["issued_with"] == audited.key["id"]
    _, lines = audited.call("/token/consume", {"token": used["token"], **terms})
    check("token.validated", used, lines)
    assert lines[0]["issued_with"] == audited.key["id"]
    for token, verb, event in ((freed, "release", "released"), (kept, "commit", "committed")):
        held, lines = audited.call("/token/reserve", {"token": token["token"], **terms})
        check("token.reserved", token, lines)
        _, lines = audited.call(f"/token/{verb}", {"reservation": held["reservation"]})
        check(f"token.{event}", token, lines)
    check("token.revoked", by_text, audited.call("/token/revoke", {"token": by_text["token"]})[1])
    _, lines = audited.call(f"/token/{by_id['id']}", method="DELETE")
    check("token.revoked", by_id, lines)
    _, [line] = audited.call("/token/revoke-all", {"purpose": "pay"})
    assert (line["event"], line["purpose"]) == ("token.revoked_all", "pay")


def test_each_refusal_has_its_line_with_its_reason(audited: Audited) -> None:
    terms = {"purpose": "pay", "issued_by": [audited.person.id]}
    token, _ = audited.call("/token/create", {"purpose": "pay"})
    presented = {"token": token["token"], **terms}

    def refusal(path: str, body: dict[str, Any]) -> tuple[str, str | None, str]:
        _, [line] = audited.call(path, body)
        return line["event"], line.get("token_id"), line["code"]

    _, [line] = audited.call("/token/consume", {**presented, "purpose": "chat"})
    assert (line["event"], line["code"]) == ("token.refused", "token_mismatch")
    assert (line["field"], line["purpose"], line["token_id"]) == ("purpose", "chat", token["id"])
    audited.call("/token/consume", presented)
    used = "token.replayed", token["id"], "token_already_used"
    assert refusal("/token/consume", presented) == used
    malformed = "token.refused", None, "token_malformed"
    assert refusal("/token/consume", {**presented, "token": "ott_no"}) == malformed
    assert refusal("/token/consume", {**presented, "token": 7})[2] == "validation_failed"
    assert refusal("/token/create", {"expires_in": -1})[2] == "validation_failed"
    assert audited.call("/token/introspect", presented)[1] == []


def test_a_repeat_is_marked(audited: Audited) -> None:
    repeated = {**audited.as_key, "Idempotency-Key": secrets.token_hex(8)}
    for replayed in (False, True):
        _, [line] = audited.call("/token/create", {"purpose": "pay"}, repeated)
        assert (line["event"], line["replayed"]) == ("token.created", replayed)


def test_the_gate_has_its_lines(audited: Audited) -> None:
    token, _ = audited.call("/token/create", {"purpose": "ws.connect"})
    query = {"purpose": "ws.connect", "issued_by": audited.person.id}
    headers = {**audited.as_key, "X-One-Time-Token": token["token"]}
    for event in ("token.validated", "token.replayed"):
        _, [line] = audited.call("/token/gate", None, headers, params=query, method="GET")
        assert (line["event"], line["token_id"]) == (event, token["id"])
        assert (line["endpoint"], line["purpose"]) == ("gate.admit", "ws.connect")


def test_a_guess_of_a_password_or_a_key_has_its_line(audited: Audited) -> None:
    """With the account where there is one, and never with the address that was tried."""
    person = audited.person
    for correo, attempted in ((person.correo, person.id), ("nobody@example.com", None)):
        body = {"correo": correo, "password": WRONG_PASSWORD}
        _, [line] = audited.call("/auth/login", body)
        assert (line["event"], line["code"]) == ("auth.login_failed", "invalid_credentials")
        assert line.get("attempted_id") == attempted
        assert re.fullmatch("[0-9a-f]{16}", line["attempted"])
        assert line["client_address"] == CLIENT
    _, [line] = audited.call("/auth/login", {"correo": person.correo, "password": PASSWORD})
    assert (line["event"], line["user_id"]) == ("auth.login", person.id)
    wrong = {"old": WRONG_PASSWORD, "new": "seis tristes tigres en un trigal"}
    _, [line] = audited.call("/auth/password", wrong, person.headers)
    assert (line["code"], line["user_id"]) == ("invalid_credentials", person.id)
    _, [line] = audited.call("/auth/token", {}, {"Authorization": "Basic bm9ib2R5Om5vYm9keQ=="})
    assert line["event"] in ("key.refused", "http.refused")
    _, [line] = audited.call("/auth/refresh", {"refresh_token": "osr_" + "0" * 60})
    assert line["code"] == "session_ended"
    assert "@" not in audited.path.read_text()


def test_the_file_may_be_moved_away(audited: Audited, tmp_path: Path) -> None:
    """As logrotate does: no line is lost, and the new file gets those that follow."""
    moved = audited.path.rename(tmp_path / "audit.log.1")
    ids = []

    def is_new() -> bool:
        ids.append(audited.create())
        return audited.path.exists() and ids[-1] in audited.path.read_text()

    until(is_new, 10)
    written = moved.read_text() + audited.path.read_text()
    assert all(written.count(f'"token_id": "{token_id}"') == 1 for token_id in ids)


def test_a_full_disk_is_counted_and_changes_no_response(audited: Audited) -> None:
    """A torn line ends where the disk was full, and each line that was lost is counted."""
    most = audited.path.stat().st_size + 100
    workers = audited.service.workers()
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in workers}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))
    lost = [audited.create() for _ in range(20)]
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    kept = [audited.create() for _ in range(20)]

    def whole() -> list[dict[str, Any]]:
        found = []
        for line in audited.path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                assert len(line) <= 100  # The torn one.
        return found

    def reported() -> int:
        return sum(line.get("lines", 0) for line in whole())

    def missing() -> set[str]:
        return {*lost, *kept} - {line.get("token_id") for line in whole()}

    until(lambda: missing() <= {*lost} and reported() == len(missing()))
    assert reported() > 0


#: What it has in common with the lines, and ends neither of them.
SUBJECT = '", "method": "GET", "endpoint": "x"}{"endpoint": 7'
OF_THE_TRAIL = {"stream", "purpose", "issued_by", "expires_in", "subject"}
OF_THE_TRAIL |= {"attempted", "attempted_id"}
OF_THE_LOG = {"method", "level", "ms", "redis_ms", "postgres_ms", "count", "correo", "session_id"}


@pytest.mark.parametrize("level", ["info", "error"])
def test_both_lines_of_a_call_may_go_to_standard_error(level: str, serve: Serve) -> None:
    """Before the response, whole, and each with its own members. Guard: ``both``."""
    with serve(web_concurrency=1, log_level=level) as service, httpx.Client(timeout=30) as http:
        person: Person = enrol(lambda path, **more: http.post(service.url + path, **more))
        wrong = {"correo": person.correo, "password": WRONG_PASSWORD}
        for path, body, tokens in (
            ("/token/create", {"purpose": "pay"}, 1),
            ("/token/create", {"purpose": "pay"}, 1),  # By the direct door.
            ("/token/batch", {"count": 3, "purpose": "pay"}, 3),
            ("/token/revoke-all", {"subject": SUBJECT}, 1),
            ("/token/consume", {"token": SUBJECT}, 1),
            ("/auth/login", wrong, 1),
        ):
            headers = {**person.headers, "X-Request-ID": secrets.token_hex(16)}
            response = http.post(service.url + path, json=body, headers=headers)
            written = service.log.read_text().splitlines()
            lines = [json.loads(line) for line in written if headers["X-Request-ID"] in line]
            trail = [line for line in lines if "stream" in line]
            log = [line for line in lines if "stream" not in line]
            assert (len(trail), len(log)) == (tokens, int(level == "info"))
            shared = trail[0].keys() - OF_THE_TRAIL
            assert shared >= {"endpoint", "status", "event", "request_id", "timestamp"}
            for line in lines:
                assert line["status"] == response.status_code
                assert not line.keys() & (OF_THE_TRAIL if line in log else OF_THE_LOG)
                other = {name for name in shared if line[name] != trail[0][name]}
                assert other <= ({"token_id"} if tokens > 1 else set())
            assert all(line.keys() >= {"method", "level", "ms"} for line in log)
            assert path != "/token/revoke-all" or trail[0]["subject"] == SUBJECT
            if tokens > 1:
                made = [token["id"] for token in response.json()["tokens"]]
                assert [line["token_id"] for line in trail] == made


@pytest.mark.parametrize("how", ["whole", "network", "none"])
def test_addresses_are_shown_as_the_setting_says(how: str, serve: Serve, app: Flask) -> None:
    """On each line, of both doors, of what is no request, and in events."""
    settings = {"trusted_proxies": 1, "log_addresses": how}
    with serve(web_concurrency=1, **settings) as service, httpx.Client(timeout=30) as http:
        from_afar = {"X-Forwarded-For": CLIENT}
        person: Person = enrol(
            lambda path, **more: http.post(service.url + path, headers=from_afar, **more)
        )
        before = service.log.stat().st_size
        asked = {}
        for client in CLIENTS:
            for path in ("/token/create", "/token/create", "/auth/login", "/nowhere", "/\0"):
                request_id = secrets.token_hex(16)
                asked[request_id] = client
                headers = {"X-Forwarded-For": client, "X-Request-ID": request_id}
                if path == "/\0":  # It has no host.
                    malformed(service, headers)
                else:
                    http.post(service.url + path, json={}, headers={**person.headers, **headers})
        until(lambda: all(name in service.log.read_text() for name in asked))
        written = service.log.read_text()[before:]
        lines = [json.loads(line) for line in written.splitlines()]
        shown = {
            (line["request_id"], line.get("client_address"))
            for line in lines
            if line.get("request_id") in asked
        }
        assert shown == {(name, CLIENTS[client][how]) for name, client in asked.items()}
        if how != "whole":
            assert not [client for client in CLIENTS if client in written]
    of_person = "SELECT DISTINCT address FROM audit_events WHERE account_id = :id"
    [event] = execute(app, of_person, id=person.id)
    assert event["address"] == CLIENTS[CLIENT][how]


def malformed(service: Service, headers: dict[str, str]) -> None:
    with socket.create_connection((service.host, service.port), 10) as connection:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"GET / HTTP/1.1\r\n{fields}\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_file_that_cannot_be_written_ends_the_start(serve: Serve, tmp_path: Path) -> None:
    """Guard: ``unwritable`` in gunicorn.conf.py."""
    for path in (tmp_path, tmp_path / "missing" / "audit.log"):
        with (
            pytest.raises(AssertionError, match="audit_path cannot be written"),
            serve(audit_log="file", audit_path=path),
        ):
            pass


def test_there_is_none_where_it_is_off(serve: Serve) -> None:
    with serve(web_concurrency=1, audit_log="off") as service, httpx.Client(timeout=30) as http:
        person: Person = enrol(lambda path, **more: http.post(service.url + path, **more))
        made = http.post(f"{service.url}/token/create", headers=person.headers).json()
        until(lambda: made["id"] in service.log.read_text())
        assert '"stream"' not in service.log.read_text()
