"""When the Python client tries again, how long, and what it raises in the end."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.clients.worlds import PATIENT, keyed
from tests.stage.people import PASSWORD, WRONG_PASSWORD, enrol
from tests.stage.proxy import DELAY, Proxy
from tests.stage.service import Service
from tests.stage.waiting import until
from token_service_client import (
    CallRefused,
    Created,
    FakeTokens,
    RateLimited,
    Tokens,
    TokensError,
    Unavailable,
    fastapi,
    flask,
)

NOW = "2030-01-01T00:00:00+00:00"
CREATED = {
    **{"token": "ott_0", "id": "0", "expires_at": NOW, "expires_in": 9, "state": "active"},
    **{"purpose": "a", "audience": None, "subject": "a", "server_time": NOW, "replayed": False},
}
GOOD = httpx.Response(201, json=CREATED)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "code": code}, headers=headers)


BUSY = problem(503, "busy")
HTML = httpx.Response(502, text="<h1>Bad gateway</h1>")
LOST = httpx.ReadError("lost")
CLOSED = httpx.ConnectError("refused")
LIMITED = problem(429, "rate_limited")


class Line:
    """A client of httpx whose tries end as given, the last one again and again."""

    def __init__(self, *ends: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._ends = list(ends)
        network = httpx.MockTransport(self._end)
        self.http = httpx.Client(transport=network, follow_redirects=True)

    def _end(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        end = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        if isinstance(end, Exception):
            raise end
        return httpx.Response(end.status_code, content=end.content, headers=end.headers)

    def create(self, **policy: Any) -> Created:
        return Tokens("http://a.example", "osk_0", http=self.http, **policy).create(purpose="a")

    def fails(self, **policy: Any) -> TokensError:
        with pytest.raises(TokensError) as raised:
            self.create(**policy)
        return raised.value


@pytest.mark.parametrize(
    "end", [BUSY, HTML, LOST, CLOSED, LIMITED, problem(504, "internal_error")], ids=str
)
def test_a_try_without_an_outcome_is_repeated_under_the_same_key(
    end: httpx.Response | Exception,
) -> None:
    line = Line(end, end, end, GOOD)
    assert line.create().id == "0"
    keys = {request.headers["Idempotency-Key"] for request in line.requests}
    assert (len(line.requests), len(keys)) == (4, 1)
    assert len({request.content for request in line.requests}) == 1


@pytest.mark.parametrize(
    "end",
    [problem(403, "insufficient_scope"), problem(409, "token_reserved"), problem(500, "no")],
    ids=str,
)
def test_nothing_else_is_repeated(end: httpx.Response) -> None:
    line = Line(end, GOOD)
    line.fails()
    assert len(line.requests) == 1


@pytest.mark.parametrize(
    ("ends", "code", "outcome_unknown"),
    [
        ([CLOSED], "unreachable", False),
        ([httpx.ConnectTimeout("")], "unreachable", False),
        ([BUSY], "busy", False),
        ([problem(503, "not_ready")], "not_ready", False),
        ([problem(503, "database_unavailable")], "database_unavailable", False),
        ([problem(503, "store_unavailable")], "store_unavailable", True),
        ([httpx.Response(503)], "http_503", True),
        ([LOST], "no_response", True),
        ([httpx.WriteTimeout("")], "no_response", True),
        ([httpx.RemoteProtocolError("")], "no_response", True),
        ([HTML], "http_502", True),
        ([problem(504, "internal_error")], "internal_error", True),
        ([problem(500, "internal_error")], "internal_error", True),
        ([LOST, CLOSED], "unreachable", True),
        ([LOST, BUSY], "busy", True),
        ([LOST, LIMITED], "rate_limited", True),
        ([httpx.Response(201, text="<h1>Welcome to this hotel</h1>")], "unreadable_response", True),
        ([httpx.Response(201, json={"token": "ott_0"})], "unreadable_response", True),
    ],
)
def test_in_the_end_it_is_said_whether_the_outcome_is_unknown(
    ends: list[httpx.Response | Exception], code: str, outcome_unknown: bool
) -> None:
    """An earlier try that was lost outweighs a later one that certainly did nothing."""
    error = Line(*ends).fails()
    assert isinstance(error, Unavailable)
    assert (error.code, error.outcome_unknown) == (code, outcome_unknown)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - for pools of processes
    assert (str(again), again.outcome_unknown) == (str(error), outcome_unknown)


def test_a_limit_is_no_outage() -> None:
    error = Line(LIMITED).fails()
    assert type(error) is RateLimited
    assert type(Line(problem(429, "too_many_active")).fails()) is RateLimited


def test_a_redirect_is_not_followed() -> None:
    """The server that it names must not get the key."""
    line = Line(httpx.Response(307, headers={"Location": "http://b.example/"}))
    assert type(line.fails()) is CallRefused
    assert len(line.requests) == 1


def test_retry_after_is_honoured() -> None:
    line = Line(problem(503, "busy", **{"Retry-After": "1"}), GOOD)
    began = time.monotonic()
    line.create()
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_beyond_the_deadline_raises_at_once(status: int) -> None:
    line = Line(problem(status, "rate_limited", **{"Retry-After": "60"}), GOOD)
    began = time.monotonic()
    assert line.fails(deadline=30).retry_after == 60
    assert time.monotonic() - began < 20
    assert len(line.requests) == 1


def test_the_waits_grow_and_differ() -> None:
    with FakeTokens(retries=6, deadline=1000) as tokens:
        ends = []
        for _ in range(20):
            tokens.service.fail("busy", times=7, retry_after=0)
            began = tokens.service.clock.seconds()
            with pytest.raises(Unavailable):
                tokens.create(purpose="a")
            ends.append(tokens.service.clock.seconds() - began)
        # 0.1 s doubled five times is 6.3 s in all, of which a half is at random.
        assert all(3.1 < end < 6.4 for end in ends)
        assert len(set(ends)) == 20


def test_no_try_begins_after_the_deadline() -> None:
    with FakeTokens(retries=1000, deadline=20) as tokens:
        tokens.service.fail("busy", times=1000, retry_after=3)
        with pytest.raises(Unavailable):
            tokens.create(purpose="a")
        assert 15 < tokens.service.clock.seconds() < 20


def test_a_slow_service_is_unavailable_within_the_deadline(service: Service) -> None:
    [(_, key)] = keyed(service, 1)
    with Proxy(service.port) as proxy:
        proxy.hang()
        url = f"http://127.0.0.1:{proxy.port}"
        with Tokens(url, key, timeout=0.2, deadline=1.5, retries=99) as tokens:
            began = time.monotonic()
            with pytest.raises(Unavailable) as raised:
                tokens.create(purpose="a")
            assert time.monotonic() - began < 10
            assert raised.value.outcome_unknown
            proxy.mend()

            def works() -> bool:
                with contextlib.suppress(Unavailable):
                    return bool(tokens.create(purpose="a"))
                return False

            until(works)


def test_a_closed_door_is_unavailable_and_nothing_was_done() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, not listening: no other process can take the port
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with Tokens(url, "osk_0", retries=1) as tokens, pytest.raises(Unavailable) as raised:
            tokens.create(purpose="a")
        assert not raised.value.outcome_unknown


def test_a_response_that_comes_too_late_is_no_response_to_the_next_call(service: Service) -> None:
    [(_, key)] = keyed(service, 1)
    with Proxy(service.port, late=1.5) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        with Tokens(url, key, timeout=0.5, deadline=60, retries=50) as tokens:
            proxy.lose(b"first-late", DELAY)
            made = tokens.create(purpose="first-late", idempotency_key="late")
            assert (made.purpose, made.replayed) == ("first-late", True)
            assert tokens.create(purpose="second").purpose == "second"
        assert proxy.lost[DELAY] == 1


def test_a_limit_of_the_service_is_told(service: Service) -> None:
    [(_, key)] = keyed(service, 1, limits={"create": "1 per hour"})
    with Tokens(service.url, key, **PATIENT) as tokens:
        tokens.create(purpose="a")
        with pytest.raises(RateLimited) as raised:
            tokens.create(purpose="a")
        assert 60 < raised.value.retry_after <= 3600


@pytest.mark.parametrize("key", ["osk_0\n", "osk_ñ", "osk_0 ", "osk_0\x00"])
def test_a_damaged_key_is_refused_and_not_shown(key: str) -> None:
    """The error of the HTTP library would show the header."""
    with pytest.raises(ValueError, match="characters that no service key has") as raised:
        Tokens("http://a.example", key)
    assert key.strip() not in str(raised.value)


def test_a_wrong_key_is_refused_and_not_shown(service: Service) -> None:
    key = "osk_" + "0" * 40
    with Tokens(service.url, key, **PATIENT) as tokens, pytest.raises(CallRefused) as raised:
        tokens.create(purpose="a")
    assert raised.value.code == "key_invalid"
    assert key not in f"{raised.value} {raised.value!r} {raised.value.problem} {tokens!r}"


def test_a_wrong_call_names_its_fields_in_the_language_of_the_program(service: Service) -> None:
    [(_, key)] = keyed(service, 1)
    for language, words in (("en", "Correct the fields"), ("es", "Corrige los campos")):
        tokens = Tokens(service.url, key, **PATIENT, language=language)
        with tokens, pytest.raises(CallRefused) as raised:
            tokens.create(purpose="no purpose")
        assert words in str(raised.value)
        assert "'purpose'" in str(raised.value)


@pytest.mark.parametrize("nobody", ["", [], ["a@example.com", ""]])
def test_issuers_are_named(nobody: str | list[str]) -> None:
    """At the start of the program, where a guard is made."""
    for guard in (flask.one_time, fastapi.one_time):
        with pytest.raises(ValueError, match="issued_by is empty"):
            guard("app.open", issued_by=nobody)
    with FakeTokens() as tokens:
        token = tokens.create(purpose="a").token
        with pytest.raises(ValueError, match="issued_by is empty"):
            tokens.consume(token, purpose="a", issued_by=nobody)
        with pytest.raises(ValueError, match="issued_by is empty"):
            tokens.peek(token, issued_by=nobody)


def test_the_url_is_one_of_http() -> None:
    with pytest.raises(ValueError, match="http"):
        Tokens("tokens.example", "osk_0")


class ShortLived(httpx.HTTPTransport):
    """A network on which an access token is said to live for one second.

    :ivar paths: the calls that passed
    """

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        content = response.read().replace(b'"expires_in":900', b'"expires_in":1')
        with self._lock:
            self.paths.append(request.url.path)
        headers = {"Content-Type": response.headers["Content-Type"]}
        return httpx.Response(response.status_code, content=content, headers=headers)


@contextmanager
def logged_in(
    service: Service, **options: Any
) -> Iterator[tuple[Tokens, Callable[[str], httpx.Response]]]:
    """A person's client, and a way to call other paths as this person."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        person = enrol(http.post)
        login = {"email": person.correo, "password": PASSWORD, **PATIENT, **options}
        with Tokens.login(service.url, **login) as tokens:
            yield tokens, lambda path: http.post(path, headers=person.headers)


def test_a_person_logs_in(service: Service) -> None:
    with logged_in(service) as (tokens, _):
        assert tokens.create(purpose="a").state == "active"
    with pytest.raises(CallRefused) as raised:
        Tokens.login(service.url, email="nobody@example.com", password=WRONG_PASSWORD, **PATIENT)
    assert raised.value.code == "invalid_credentials"
    assert WRONG_PASSWORD not in repr(raised.value)


def test_a_session_is_renewed_once_by_many_threads(service: Service) -> None:
    """Each refresh token is good once: two at a time could end the session."""
    network = ShortLived()
    with httpx.Client(transport=network) as http, logged_in(service, http=http) as (tokens, _):
        made: list[Created] = []
        for _ in range(2):
            time.sleep(0.7)
            threads = [
                threading.Thread(target=lambda: made.append(tokens.create(purpose="a")))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(made) == 16
        assert 2 <= network.paths.count("/auth/refresh") < 8  # more than 2 on a slow machine


def test_an_access_token_that_is_refused_is_replaced(service: Service) -> None:
    spoiled: list[str] = []

    def spoil(request: httpx.Request) -> None:
        if request.url.path == "/token/create" and not spoiled:
            spoiled.append(request.headers["Idempotency-Key"])
            request.headers["Authorization"] = "Bearer spoiled"

    with httpx.Client(event_hooks={"request": [spoil]}) as http:  # noqa: SIM117
        with logged_in(service, http=http) as (tokens, _):
            assert tokens.create(purpose="a").state == "active"
    assert len(spoiled) == 1


def test_a_session_that_has_ended_is_told(service: Service) -> None:
    with logged_in(service) as (tokens, post):
        assert post("/auth/logout-all").status_code == 204
        with pytest.raises(CallRefused) as raised:
            tokens.create(purpose="a")
        assert raised.value.code == "session_ended"
