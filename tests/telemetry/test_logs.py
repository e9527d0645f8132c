"""The log: one JSON line per response, without forgeries and without secrets."""

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

# A well-formed one-time token belongs to one run of Redis, and so is made at run time; this one
# has the wrong checksum.
MALFORMED = "ott_" + "0" * 56
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OF_THE_LOG = re.compile(rb'^\{(?!"stream").*\n', re.MULTILINE)
ALWAYS = ("method", "endpoint", "status", "ms", "request_id", "timestamp", "level", "event")


class Logged:
    """A service and its log, read from the end of the last read, without the audit trail."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.http = httpx.Client(base_url=service.url, timeout=30)
        self._read = 0

    def lines(self, least: int = 0) -> list[dict[str, Any]]:
        """The new lines, each one a whole JSON object without control characters.

        :param least: the number to wait for; lines come a moment after their responses
        """
        until(lambda: len(OF_THE_LOG.findall(self.service.log.read_bytes(), self._read)) >= least)
        written = self.service.log.read_bytes()
        new, self._read = written[self._read :], len(written)
        assert new == b"" or new.endswith(b"\n")
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", new)
        lines = [json.loads(line) for line in new.decode().split("\n")[:-1]]
        assert all(isinstance(line, dict) for line in lines)
        return [line for line in lines if "stream" not in line]

    def line(self, call: Callable[[], Any]) -> dict[str, Any]:
        """The one line of the response to ``call``."""
        self.lines()
        call()
        (line,) = self.lines(least=1)
        assert set(ALWAYS) <= set(line)
        return line


@pytest.fixture(scope="module")
def logged(serve: Callable[..., Service]) -> Iterator[Logged]:
    with serve(web_concurrency=2) as service:
        running = Logged(service)
        with running.http:
            yield running
    assert running.lines()  # The lines of its end are JSON too.


@pytest.fixture
def someone(logged: Logged) -> Person:
    person = enrol(logged.http.post)
    logged.lines(least=2)
    return person


def create(logged: Logged, someone: Person) -> dict[str, Any]:
    response = logged.http.post("/token/create", headers=someone.headers)
    found: dict[str, Any] = response.json()
    return found


def test_each_event_has_its_name_and_its_account(logged: Logged) -> None:
    """One line per response, so that counting lines counts responses (ASVS 5.0 V16.3.1)."""
    correo = new_correo()
    masked = f"{correo[0]}***@example.com"
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    credentials = {"correo": correo, "password": PASSWORD}
    responses: list[httpx.Response] = []

    def post(path: str, **body: Any) -> dict[str, Any]:
        line = logged.line(lambda: responses.append(logged.http.post(path, **body)))
        assert line["status"] == responses[-1].status_code
        assert line["method"] == "POST"
        return line

    line = post("/auth/register", json=account)
    user_id = responses[-1].json()["id"]
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
    headers = {"Authorization": f"Bearer {responses[-1].json()['access_token']}"}

    line = post("/token/create", headers=headers)
    token = responses[-1].json()
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


def test_successful_probes_write_no_line(logged: Logged) -> None:
    logged.lines()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert logged.http.get(path).status_code == 200
    # The same connection has the same worker: lines of the probes would come first.
    assert logged.line(lambda: logged.http.get("/nowhere"))["status"] == 404


# Request ids and traces.


@pytest.mark.parametrize("given", ["a", "01H-x_y.z", "7" * 128, "..", TRACE])
def test_a_well_formed_request_id_is_kept(given: str, logged: Logged) -> None:
    responses: list[httpx.Response] = []
    line = logged.line(
        lambda: responses.append(logged.http.get("/nowhere", headers={"X-Request-ID": given}))
    )
    assert responses[0].headers["X-Request-ID"] == given
    assert responses[0].json()["request_id"] == given
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
    """Guards: ``logs.REQUEST_ID``, and ``logs.SECRET_TEXTS`` for a secret sent as an id."""
    responses: list[httpx.Response] = []
    headers = [(b"X-Request-ID", given)]
    line = logged.line(lambda: responses.append(logged.http.get("/nowhere", headers=headers)))
    kept = responses[0].headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", kept)
    assert responses[0].json()["request_id"] == line["request_id"] == kept


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
def test_a_malformed_trace_is_ignored(trace: str, logged: Logged) -> None:
    line = logged.line(lambda: logged.http.get("/nowhere", headers={"traceparent": trace}))
    assert "trace_id" not in line
    assert line["request_id"] != TRACE


# Forgeries.

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
    """Raw bytes, refused by gunicorn or the app: the log stays a list of JSON objects.

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


def test_lines_of_concurrent_writers_stay_whole(logged: Logged, someone: Person) -> None:
    """Threads and workers write to one file, and their lines do not mix."""
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


# Secrets.


@pytest.mark.parametrize("level", ["info", "debug"])
def test_an_unreadable_request_is_not_logged(level: str, serve: Callable[..., Service]) -> None:
    """After too small a Content-Length it is the rest of a body, with a password in it.

    Guards: ``refusals.refusal``, and the level of "gunicorn.error" in ``logs.py``.
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


def test_a_logged_secret_is_blanked() -> None:
    """By its name, or by its shape; tests/torture/test_secrets.py sends them everywhere."""
    why = f"{MALFORMED} of eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0 at redis://:secret@host:1/0"
    line = logs.render(None, "", logs.redact(None, "", {"password": PASSWORD, "why": why, "n": 3}))
    assert json.loads(line) == {
        "password": "[redacted]",
        "why": "[redacted] of [redacted] at redis://[redacted]@host:1/0",
        "n": 3,
    }


@pytest.mark.parametrize(
    "secret",
    [
        MALFORMED,
        "otr_" + "0" * 70,
        "eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0",
        "redis://:secret@host",
        "host=h password=secret",
    ],
)
def test_each_shape_of_a_secret_is_found_alone(secret: str) -> None:
    """Guard: ``logs.SECRET_PARTS``."""
    line = logs.render(None, "", {"why": secret})
    assert "[redacted]" in line
    assert secret not in line


def test_a_row_quoted_by_postgres_is_left_out() -> None:
    """Guard: ``logs.leave_out_quotes``, which runs after the exceptions are formatted."""
    error = "CheckViolation: refused\nDETAIL:  Failing row contains (Ana, $argon2id$).\n[SQL: x]"
    event = logs.leave_out_quotes(None, "", {"exception": error})
    assert event["exception"] == "CheckViolation: refused\nDETAIL: [redacted]\n[SQL: x]"
    assert logs.SHARED.index(logs.leave_out_quotes) > 0
