"""What the service writes: one JSON line an answer, that nobody can forge and no secret is in."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.telemetry import logs

# A one-time token of the right shape and checksum belongs to one run of Redis, and so is made
# at run time; this one has the wrong checksum.
MALFORMED = "ott_" + "0" * 56
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ANSWERED = ("method", "endpoint", "status", "ms", "request_id", "timestamp", "level", "event")


class Logged:
    """A service, and the lines that it wrote since one last asked."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.http = httpx.Client(base_url=service.url, timeout=30)
        self._read = 0

    def lines(self, least: int = 0) -> list[dict[str, Any]]:
        """Every line is one JSON object, whole, and plain enough for any terminal.

        :param least: how many to wait for; they come a moment after the answers
        """
        until(lambda: self.service.log.read_bytes()[self._read :].count(b"\n") >= least)
        written = self.service.log.read_bytes()
        new, self._read = written[self._read :], len(written)
        assert new == b"" or new.endswith(b"\n")
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", new)
        lines = [json.loads(line) for line in new.decode().split("\n")[:-1]]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def line(self, call: Callable[[], Any]) -> dict[str, Any]:
        """The one line that ``call`` is answered with."""
        self.lines()
        call()
        (line,) = self.lines(least=1)
        assert set(ANSWERED) <= set(line)
        return line


@pytest.fixture(scope="module")
def logged(serve: Callable[..., Service]) -> Iterator[Logged]:
    with serve(web_concurrency=2) as service:
        running = Logged(service)
        with running.http:
            yield running
    assert running.lines()  # What it says on its way out is JSON too.


@pytest.fixture
def someone(logged: Logged) -> Person:
    person = enrol(logged.http.post)
    logged.lines(least=2)
    return person


def create(logged: Logged, someone: Person) -> dict[str, Any]:
    answer = logged.http.post("/token/create", headers=someone.headers)
    found: dict[str, Any] = answer.json()
    return found


def test_each_event_has_its_name_and_says_who(logged: Logged) -> None:
    """And one line an answer, so that counting lines counts answers (ASVS 5.0 V16.3.1)."""
    correo = new_correo()
    masked = f"{correo[0]}***@example.com"
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    credentials = {"correo": correo, "password": PASSWORD}
    answers: list[httpx.Response] = []

    def post(path: str, **body: Any) -> dict[str, Any]:
        line = logged.line(lambda: answers.append(logged.http.post(path, **body)))
        assert line["status"] == answers[-1].status_code
        assert line["method"] == "POST"
        return line

    line = post("/auth/register", json=account)
    user_id = answers[-1].json()["id"]
    assert (line["event"], line["user_id"]) == ("auth.registered", user_id)
    assert line["correo"] == masked
    assert line["endpoint"] == "auth.register"

    line = post("/auth/register", json=account)
    assert (line["event"], line["code"]) == ("http.refused", "email_taken")

    line = post("/auth/login", json={**credentials, "password": "wrong"})
    assert (line["event"], line["correo"]) == ("auth.login_failed", masked)
    assert line["code"] == "invalid_credentials"

    line = post("/auth/login", json=credentials)
    assert (line["event"], line["user_id"]) == ("auth.login", user_id)
    headers = {"Authorization": f"Bearer {answers[-1].json()['access_token']}"}

    line = post("/token/create", headers=headers)
    token = answers[-1].json()
    assert (line["event"], line["token_id"]) == ("token.created", token["id"])
    assert line["user_id"] == user_id

    line = post("/token/validate", headers=headers, json={"token": token["token"]})
    assert (line["event"], line["token_id"]) == ("token.validated", token["id"])

    line = post("/token/validate", headers=headers, json={"token": token["token"]})
    assert (line["event"], line["token_id"]) == ("token.replayed", token["id"])
    assert (line["code"], line["user_id"]) == ("token_already_used", user_id)

    line = post("/token/validate", headers=headers, json={"token": MALFORMED})
    assert (line["event"], line["code"]) == ("token.refused", "token_malformed")

    line = post("/token/create", headers={"Authorization": "Bearer x"})
    assert (line["event"], line["code"]) == ("http.refused", "access_token_invalid")
    assert "user_id" not in line

    line = post("/nowhere")
    assert (line["event"], line["code"]) == ("http.refused", "not_found")
    assert line["endpoint"] is None


def test_times_are_utc(logged: Logged) -> None:
    line = logged.line(lambda: logged.http.get("/docs"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert (line["event"], line["level"]) == ("http.answered", "info")
    assert 0 <= line["ms"] < 30_000


def test_probes_that_succeed_are_not_worth_a_line(logged: Logged) -> None:
    logged.lines()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert logged.http.get(path).status_code == 200
    # On the same connection, and so of the same worker: theirs would come before.
    assert logged.line(lambda: logged.http.get("/nowhere"))["status"] == 404


# Who a request is.


@pytest.mark.parametrize("given", ["a", "01H-x_y.z", "7" * 128, "..", TRACE])
def test_a_sane_request_id_is_kept(given: str, logged: Logged) -> None:
    answers: list[httpx.Response] = []
    line = logged.line(
        lambda: answers.append(logged.http.get("/nowhere", headers={"X-Request-ID": given}))
    )
    assert answers[0].headers["X-Request-ID"] == given
    assert answers[0].json()["request_id"] == given
    assert line["request_id"] == given


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"7" * 129,
        b"a b",
        b'a"b',
        b"{}",
        b"a,b",
        b"a/b",
        b"<x>",
        b"\xc3\xa9",
        b"\xff",
        b"ana@example.com",
        b"%0a",
        b"ott_" + b"0" * 56,
        b"otr_" + b"0" * 70,
        b"eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0",
    ],
)
def test_any_other_request_id_is_replaced(given: bytes, logged: Logged) -> None:
    """Guards: ``logs.REQUEST_ID``, and ``logs.SECRET_TEXTS`` for what someone mistook for one."""
    answers: list[httpx.Response] = []
    headers = [(b"X-Request-ID", given)]
    line = logged.line(lambda: answers.append(logged.http.get("/nowhere", headers=headers)))
    kept = answers[0].headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", kept)
    assert answers[0].json()["request_id"] == line["request_id"] == kept


def test_a_trace_is_honoured(logged: Logged) -> None:
    """W3C Trace Context: its id is in the line, and is the request id where none is given."""
    trace = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    line = logged.line(lambda: logged.http.get("/nowhere", headers=trace))
    assert (line["request_id"], line["trace_id"]) == (TRACE, TRACE)
    both = {**trace, "X-Request-ID": "mine"}
    line = logged.line(lambda: logged.http.get("/nowhere", headers=both))
    assert (line["request_id"], line["trace_id"]) == ("mine", TRACE)


@pytest.mark.parametrize(
    "trace",
    [
        "",
        TRACE,
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7",
        f"00-{TRACE}-00f067aa0ba902b7-01-x",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE[:-1]}-00f067aa0ba902b7-01",
    ],
)
def test_a_trace_that_is_none_is_ignored(trace: str, logged: Logged) -> None:
    line = logged.line(lambda: logged.http.get("/nowhere", headers={"traceparent": trace}))
    assert "trace_id" not in line
    assert line["request_id"] != TRACE


# What nobody can forge.

FORGERIES = [
    b'x\\", "event": "token.created", "x": "',
    b"x\x1b[2J\x1b[31mred",
    b"x\x9b31m",
    b"\xe2\x80\xa8x\xc2\x85x",
    b"%0d%0a{}",
    b"{event} %s %(message)s ${x}",
    b"'\"`\\",
    b"x\ty",
    b"x\r\n y",
    b"x\ry",
    b"x\ny",
    b"x\x00y",
    b"\xff\xfe",
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=range(len(FORGERIES)))
@pytest.mark.parametrize("place", ["path", "query", "User-Agent", "X-Request-ID", "traceparent"])
def test_no_request_can_break_a_line(place: str, forgery: bytes, logged: Logged) -> None:
    """Sent as raw bytes; whoever answers, the log stays a list of JSON objects.

    Guard: ``logs.dict_config``, which has gunicorn write lines of JSON too (ASVS V16.4.1).
    """
    logged.lines()
    path = b"/" + forgery if place == "path" else b"/x?" + forgery if place == "query" else b"/x"
    header = place.encode() if place not in ("path", "query") else b"X-Nothing"
    value = forgery if place not in ("path", "query") else b"x"
    request = b"GET %s HTTP/1.1\r\nHost: x\r\n%s: %s\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", logged.service.port), timeout=30) as raw:
        raw.sendall(request % (path, header, value))
        assert raw.recv(12) in (b"HTTP/1.1 404", b"HTTP/1.1 400")
        while raw.recv(65536):
            pass
    for line in logged.lines(least=1):
        assert line["event"] != "token.created"
        assert len(str(line["event"])) < 500


@pytest.mark.parametrize(
    "correo",
    [
        'a"b@example.com',
        '"\\r\\n"@example.com',
        "a\r\nb@example.com",
        "\u001b[31m@example.com",
        "a\u0085b@example.com",
        "a@ex\u2028ample.com",
        "{}@example.com",
        "\u00f1and\u00fa@example.com",
        "a@\u00f1and\u00fa.example",
    ],
)
def test_no_correo_can_break_a_line(correo: str, logged: Logged) -> None:
    body = {"correo": correo, "password": "x"}
    line = logged.line(lambda: logged.http.post("/auth/login", json=body))
    assert line["status"] in (401, 422)
    assert line["event"] in ("auth.login_failed", "http.refused")
    assert correo not in json.dumps(line, ensure_ascii=False)


def test_a_line_is_whole_however_many_write(logged: Logged, someone: Person) -> None:
    """Threads and workers write to the same place, and lines do not mix."""
    logged.lines()
    url, sockets = ("127.0.0.1", logged.service.port), []
    for number in range(100):
        sockets.append(socket.create_connection(url, timeout=30))
        request = f"GET /x HTTP/1.1\r\nHost: x\r\nX-Request-ID: n{number}\r\n\r\n"
        sockets[-1].sendall(request.encode())
    for open_socket in sockets:
        assert open_socket.recv(12) == b"HTTP/1.1 404"
        open_socket.close()
    lines = logged.lines(least=100)
    assert sorted(line["request_id"] for line in lines) == sorted(f"n{n}" for n in range(100))


# What must never be read in a log.


@pytest.mark.parametrize("level", ["info", "debug"])
def test_what_gunicorn_cannot_read_is_not_written_down(
    level: str, serve: Callable[..., Service]
) -> None:
    """After a length that is too small, that is the rest of a body, with a password in it.

    Guards: ``worker.Worker.handle_error``, and the level of "gunicorn.error" in ``logs.py``.
    """
    requests = [
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}, canaria\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization Bearer canaria\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canaria\r\n",
        b"GET /canaria canaria HTTP/1.1\r\n\r\n",
    ]
    with serve(web_concurrency=1, log_level=level) as service:
        for request in requests:
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as raw:
                raw.sendall(request)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
    text = service.log.read_text()
    assert "InvalidRequestLine" in text
    assert "canaria" not in text


def test_a_secret_that_somebody_logs_is_blanked() -> None:
    """By its name, or by its shape; tests/torture/test_secrets.py sends them everywhere."""
    why = f"{MALFORMED} of eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0 at redis://:secret@host:1/0"
    line = logs.render(None, "", logs.redact(None, "", {"password": PASSWORD, "why": why, "n": 3}))
    assert json.loads(line) == {
        "password": "[redacted]",
        "why": "[redacted] of [redacted] at redis://[redacted]@host:1/0",
        "n": 3,
    }


def test_what_postgres_quotes_of_a_row_is_left_out() -> None:
    """Guard: ``logs.leave_out_quotes``, which stands behind what writes exceptions down."""
    said = "CheckViolation: refused\nDETAIL:  Failing row contains (Ana, $argon2id$).\n[SQL: x]"
    event = logs.leave_out_quotes(None, "", {"exception": said})
    assert event["exception"] == "CheckViolation: refused\nDETAIL: [redacted]\n[SQL: x]"
    assert logs.SHARED.index(logs.leave_out_quotes) > 0
