"""The counters and the log events of the token routes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from tests.stage.callers import Caller, body_of
from tests.stage.keys import bearer
from tests.stage.people import enrol
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.onetime.format import Token


def counted(client: FlaskClient, name: str, **labels: str) -> float:
    page = client.get("/metrics")
    assert page.status_code == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if (sample.name, sample.labels) == (name, labels)
    )


def test_a_repeated_response_is_not_counted_again(ana: Caller) -> None:
    """The counters count created and consumed tokens, not calls."""
    created, validated = "token_service_tokens_created_total", "token_service_tokens_consumed_total"
    before = {name: counted(ana.client, name) for name in (created, validated)}

    def more(name: str) -> float:
        return counted(ana.client, name) - before[name]

    for _ in range(2):
        token = body_of(ana.post("create", "k"))["token"]
        tokens = body_of(ana.post("batch", "l", count=3))["tokens"]
    assert more(created) == 4
    for _ in range(2):
        assert ana.post("validate", "k", token=token).status_code == 200
    assert more(validated) == 1
    held = ana.hold(tokens[0]["token"])
    assert more(validated) == 1
    for _ in range(2):
        assert ana.post("commit", "k", reservation=held).status_code == 200
    assert more(validated) == 2
    ana.post("introspect", token=tokens[1]["token"])
    ana.post("revoke", token=tokens[1]["token"])
    assert (more(created), more(validated)) == (4, 2)


def test_refusals_of_every_verb_are_counted_by_their_code(ana: Caller) -> None:
    token = ana.create(purpose="pay")["token"]
    name, code = "token_service_tokens_refused_total", "token_mismatch"
    before = counted(ana.client, name, code=code)
    for verb in ("validate", "reserve"):
        ana.post(verb, token=token)
    assert counted(ana.client, name, code=code) == before + 2


class Logged:
    """A service whose calls are returned with their line of its log."""

    def __init__(self, service: Service, http: httpx.Client) -> None:
        self._service = service
        self._http = http
        self.person = enrol(http.post)

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        key: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the body of the response, and the line."""
        request_id = secrets.token_hex(16)
        headers = {**(headers or self.person.headers), "X-Request-ID": request_id}
        if key:
            headers["Idempotency-Key"] = key
        response = self._http.request(method, path, json=body, headers=headers)
        until(lambda: bool(self._lines(request_id)))
        (line,) = self._lines(request_id)
        assert line["status"] == response.status_code
        assert line["user_id"] == self.person.id
        return (response.json() if response.content else {}), line

    def _lines(self, request_id: str) -> list[dict[str, Any]]:
        """The lines of a request in the log."""
        found = self._service.lines(request_id)
        return [line for line in found if line.get("request_id") == request_id]


@pytest.fixture
def logged(service: Service) -> Iterator[Logged]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield Logged(service, http)


def test_each_verb_writes_an_event_that_names_the_token(logged: Logged) -> None:
    token, line = logged.call("POST", "/token/create", {"expires_in": 60})
    assert (line["event"], line["token_id"]) == ("token.created", token["id"])

    presented = {"token": token["token"]}
    for verb, event in (("release", "token.released"), ("commit", "token.committed")):
        held, line = logged.call("POST", "/token/reserve", presented)
        assert (line["event"], line["token_id"]) == ("token.reserved", token["id"])
        _, line = logged.call("POST", f"/token/{verb}", {"reservation": held["reservation"]})
        assert (line["event"], line.get("token_id")) == (event, token["id"])

    _, line = logged.call("POST", "/token/validate", presented)
    assert (line["event"], line["token_id"]) == ("token.replayed", token["id"])
    # To revoke a used token is a mistake, and no sign of a stolen one.
    _, line = logged.call("DELETE", f"/token/{token['id']}")
    assert (line["event"], line["code"]) == ("token.refused", "token_already_used")

    for number, method in enumerate(("POST", "DELETE")):
        token, _ = logged.call("POST", "/token/create", {"expires_in": 60})
        path = ("/token/revoke", f"/token/{token['id']}")[number]
        body = ({"token": token["token"]}, None)[number]
        _, line = logged.call(method, path, body)
        assert (line["event"], line["token_id"]) == ("token.revoked", token["id"])
        _, line = logged.call("POST", "/token/validate", {"token": token["token"]})
        assert (line["event"], line["code"]) == ("token.refused", "token_revoked")


def test_a_mismatch_is_logged_with_its_field(logged: Logged) -> None:
    token, _ = logged.call("POST", "/token/create", {"purpose": "pay", "expires_in": 60})
    _, line = logged.call("POST", "/token/consume", {"token": token["token"], "purpose": "chat"})
    assert (line["code"], line["field"]) == ("token_mismatch", "purpose")


def test_a_wrong_key_of_a_proxy_is_an_error_in_the_log(logged: Logged) -> None:
    """Not so the visitor without a ticket."""
    for purposes, code, level in (
        (["chat"], "purpose_not_allowed", "error"),
        (["app.open"], "ticket_missing", "info"),
    ):
        asked = {"name": "proxy", "scopes": ["token:consume"], "purposes": purposes}
        key, _ = logged.call("POST", "/auth/keys", asked)
        query = f"purpose=app.open&issued_by={logged.person.correo}"
        headers = bearer(key["key"])
        _, line = logged.call("GET", f"/token/gate?{query}", headers=headers)
        assert (line["code"], line["level"], line["key_id"]) == (code, level, key["id"])


def test_a_revocation_of_all_writes_an_event(logged: Logged) -> None:
    logged.call("POST", "/token/create")
    _, line = logged.call("POST", "/token/revoke-all")
    assert (line["event"], line["status"]) == ("token.revoked_all", 204)


def test_a_repeated_response_is_logged_as_replayed(logged: Logged) -> None:
    token, _ = logged.call("POST", "/token/create", {"expires_in": 60})
    for replayed in (False, True):
        _, line = logged.call("POST", "/token/validate", {"token": token["token"]}, key="k")
        assert (line["event"], line["replayed"]) == ("token.validated", replayed)


def test_no_secret_of_a_token_is_logged(logged: Logged, service: Service) -> None:
    """S60. Neither its text nor its data, a reservation or an idempotency key."""
    data, key = secrets.token_hex(12), secrets.token_hex(12)
    token, _ = logged.call("POST", "/token/create", {"data": {"d": data}, "expires_in": 60}, key)
    held, _ = logged.call("POST", "/token/reserve", {"token": token["token"]}, key)
    logged.call("POST", "/token/commit", {"reservation": held["reservation"]}, key)
    logged.call("POST", "/token/release", {"reservation": held["reservation"]})
    logged.call("POST", "/token/validate", {"token": token["token"]}, key)
    written = service.log.read_text()
    assert token["id"] in written
    for secret in (
        Token.parse(token["token"]).secret,
        held["reservation"][-34:],
        data,
        key,
    ):
        assert secret not in written
