"""Whatever is sent, the answer is one shape, says nothing it should not, and is never a 5xx."""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.conftest import PASSWORD, Person, Service, enrol, new_correo
from tests.stage.catalogue import PROBLEMS, PUBLIC
from tokenservice.onetime.format import ID
from tokenservice.web import texts
from tokenservice.web.bodies import MAX_BODY_BYTES
from tokenservice.web.headers import SECURITY_HEADERS

CANARY = "canary7f3a"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
addresses = itertools.count(1)

NOT_A_TOKEN = "ott_" + "0" * 56
NOT_A_RESERVATION = "otr_" + "0" * 70
TERMS: dict[str, Any] = {
    "expires_in": 10,
    "purpose": "pay",
    "audience": ["errors@example.com"],
    "subject": "order 7",
    "data": {"room": 7},
    "bind": "0f" * 32,
}
PRESENTED = {
    "token": NOT_A_TOKEN,
    "purpose": "pay",
    "subject": "order 7",
    "bind": "0f" * 32,
}
# A body with every field that each route reads; the wrong values below are put in their places.
VALID: dict[str, dict[str, Any]] = {
    "/auth/register": {"nombre": "Ana", "correo": "errors@example.com", "password": PASSWORD},
    "/auth/login": {"correo": "errors@example.com", "password": PASSWORD},
    "/token/create": TERMS,
    "/token/batch": {**TERMS, "count": 1},
    "/token/validate": PRESENTED,
    "/token/reserve": {**PRESENTED, "lease_seconds": 30},
    "/token/commit": {"reservation": NOT_A_RESERVATION},
    "/token/release": {"reservation": NOT_A_RESERVATION},
    "/token/introspect": {"token": NOT_A_TOKEN},
    "/token/revoke": {"token": NOT_A_TOKEN},
}
REQUIRED = {
    "/auth/register": {"nombre", "correo", "password"},
    "/auth/login": {"correo", "password"},
    "/token/batch": {"count"},
    "/token/validate": {"token"},
    "/token/reserve": {"token"},
    "/token/commit": {"reservation"},
    "/token/release": {"reservation"},
    "/token/introspect": {"token"},
    "/token/revoke": {"token"},
}

# What is no request at all: (body, content type, the only status it may get or None for any 4xx).
BAD_BODIES: dict[str, tuple[bytes, str, int | None]] = {
    "over 16 KiB": (b'"' + b"x" * MAX_BODY_BYTES + b'"', JSON, 413),
    "over 16 KiB of spaces": (b" " * (MAX_BODY_BYTES + 1), JSON, 413),
    "a megabyte of nesting": (b"[" * 2**20, JSON, 413),
    "not JSON": (CANARY.encode(), JSON, 400),
    "half of it": (b'{"token": "canary7f3a', JSON, 400),
    "two values": (b"{} {}", JSON, 400),
    "a nesting bomb": (b"[" * 16_000, JSON, 400),
    "a closed nesting bomb": (b"[" * 8_000 + b"]" * 8_000, JSON, 400),
    "a nesting bomb of objects": (b'{"a":' * 3_000, JSON, 400),
    "a lone surrogate": (b'{"token": "\\ud800canary7f3a"}', JSON, 400),
    "a lone surrogate as a name": (b'{"\\udfff": 1}', JSON, 400),
    "an encoded surrogate": (b'{"token": "\xed\xa0\x80"}', JSON, 400),
    "NUL": (b'{"correo": "a\\u0000b@example.com"}', JSON, 400),
    "NUL as a name": (b'{"\\u0000": 1}', JSON, 400),
    "NaN": (b'{"expires_in": NaN}', JSON, 400),
    "Infinity": (b'{"expires_in": Infinity}', JSON, 400),
    "-Infinity": (b'{"expires_in": -Infinity}', JSON, 400),
    "1e999": (b'{"expires_in": 1e999}', JSON, 400),
    "a field twice": (b'{"token": "canary7f3a", "token": "canary7f3b"}', JSON, 400),
    "5000 digits": (b'{"expires_in": ' + b"9" * 5_000 + b"}", JSON, 400),
    "UTF-16": ('{"token": "canary7f3a"}'.encode("utf-16"), JSON, 400),
    "UTF-32": ('{"token": "canary7f3a"}'.encode("utf-32"), JSON, 400),
    "a byte order mark": (b"\xef\xbb\xbf{}", JSON, 400),
    "Latin-1": ('{"token": "ñ"}'.encode("latin-1"), JSON, 400),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", JSON, 400),
    "null": (b"null", JSON, 422),
    "an array": (b"[]", JSON, 422),
    "an array of objects": (b'[{"token": "canary7f3a"}]', JSON, 422),
    "a text": (b'"canary7f3a"', JSON, 422),
    "a number": (b"7", JSON, 422),
    "true": (b"true", JSON, 422),
    "an unknown field": (b'{"is_admin": "canary7f3a"}', JSON, 422),
    "a field that the service sets": (b'{"id": "canary7f3a", "is_active": true}', JSON, 422),
    "__proto__": (b'{"__proto__": {"a": "canary7f3a"}}', JSON, 422),
    "text/plain": (b'{"token": "canary7f3a"}', "text/plain", 415),
    "no content type": (b'{"token": "canary7f3a"}', "", 415),
    "XML": (b"<token>canary7f3a</token>", "application/xml", 415),
    "a broken content type": (b"{}", "////;;==\xff", 415),
    "a form": (b"token=canary7f3a&correo=canary7f3a", FORM, None),
    "a form of bytes": (b"username=%00%ff%ed%a0%80&password=%00canary7f3a", FORM, None),
    "a form over 16 KiB": (b"username=" + b"x" * MAX_BODY_BYTES, FORM, None),
    "a form of very many fields": (b"a=1&" * 4_000, FORM, None),
    "multipart": (
        b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\ncanary7f3a\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
        None,
    ),
    "multipart without a boundary": (b"--x\r\n", "multipart/form-data", None),
}

WRONG_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a huge integer": 10**4000,
    "a negative integer": -(10**20),
    "zero": 0,
    "a fraction": 0.5,
    "a large float": 1e300,
    "a text": CANARY,
    "an empty text": "",
    "spaces": "   ",
    "a long text": CANARY * 1_000,
    "control characters": CANARY + "\r\n\x1b[31m\x7f",
    "a list": [CANARY],
    "a list of lists": [[[]]],
    "an object": {"a": CANARY},
    "astral letters": "🐘" * 3_000,
    "a combining storm": "e" + "\u0301" * 7_000,
}
# A password may hold anything that can be typed, and a name any text.
MAY_PASS = {
    ("nombre", "a text"),
    ("password", "a text"),
    ("password", "control characters"),
    ("purpose", "a text"),
    ("subject", "a text"),
    ("data", "an object"),
}
# And any text at all is a token that is not active.
INACTIVE = b'{"active":false}\n'


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of its own address: login attempts are counted by address, whatever is ``off``."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = f"10.9.{next(addresses) // 250}.{next(addresses) % 250}"
    return client


def body_routes(app: Flask) -> list[str]:
    """Every route that reads a body."""
    return sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or set()) and not rule.arguments
    )


def problem_in(
    answer: TestResponse | httpx.Response, status: int | None = None, code: str | None = None
) -> dict[str, Any]:
    """Hold an answer to everything that the contract says of an error."""
    assert answer.status_code == (status or answer.status_code)
    assert answer.status_code >= 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.text)
    assert body["status"] == answer.status_code
    assert body["code"] in PROBLEMS
    assert body["code"] == (code or body["code"])
    assert body["type"] == f"/problems/{body['code']}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Content-Language"] in texts.LANGUAGES
    assert "Accept-Language" in answer.headers["Vary"]
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for leak in ("Traceback", "psycopg", "sqlalchemy", "redis", "SELECT ", "tokenservice/"):
        assert leak not in answer.text or leak in (body["title"] + body["detail"]).lower()
    return body


@pytest.mark.parametrize("name", BAD_BODIES)
def test_every_route_refuses_a_bad_body_as_a_problem(
    app: Flask, client: FlaskClient, person: Person, name: str
) -> None:
    """S42, S43. Red without ``strictjson``, ``MAX_CONTENT_LENGTH`` or the content type check."""
    data, content_type, status = BAD_BODIES[name]
    for path in body_routes(app):
        answer = client.post(path, data=data, content_type=content_type, headers=person.headers)
        assert answer.status_code < 500, path
        problem_in(answer, status)
        assert CANARY not in answer.text, path


def test_every_route_that_reads_a_body_has_a_row_in_the_table(app: Flask) -> None:
    assert set(body_routes(app)) == set(VALID)


@pytest.mark.parametrize(
    ("path", "field"), [(path, field) for path, body in VALID.items() for field in body]
)
def test_every_field_refuses_a_wrong_value_as_a_problem(
    client: FlaskClient, person: Person, path: str, field: str
) -> None:
    for name, value in WRONG_VALUES.items():
        body = {**VALID[path], field: value}
        if field != "correo" and "correo" in body:
            body["correo"] = new_correo()
        answer = client.post(path, json=body, headers=person.headers)
        if answer.status_code < 400:
            assert (field, name) in MAY_PASS or answer.data == INACTIVE, name
            continue
        assert answer.status_code < 500, name
        problem_in(answer)
        assert CANARY not in answer.text, name


@pytest.mark.parametrize("path", REQUIRED)
def test_no_body_at_all_is_an_empty_object(client: FlaskClient, person: Person, path: str) -> None:
    body = problem_in(client.post(path, headers=person.headers), 422, "validation_failed")
    assert set(body["errors"]) == REQUIRED[path]


def test_a_body_may_take_16_kib_and_not_a_byte_more(client: FlaskClient) -> None:
    for size, status in ((MAX_BODY_BYTES, 422), (MAX_BODY_BYTES + 1, 413)):
        data = b"{}".ljust(size)
        problem_in(client.post("/auth/register", data=data, content_type=JSON), status)


@pytest.mark.parametrize("content_type", [JSON, "APPLICATION/JSON; charset=utf-8"])
def test_json_is_taken_under_each_of_its_names(
    client: FlaskClient, person: Person, content_type: str
) -> None:
    answer = client.post(
        "/token/create", data=b"{}", content_type=content_type, headers=person.headers
    )
    assert answer.status_code == 201


def test_a_problem_names_each_wrong_field(client: FlaskClient) -> None:
    answer = client.post(
        "/auth/register",
        json={"nombre": "", "correo": "nobody", "admin": True},
        headers={"Accept-Language": "en"},
    )
    assert problem_in(answer, 422, "validation_failed")["errors"] == {
        "nombre": ["Takes 1 to 100 characters."],
        "correo": ["Not an e-mail address."],
        "password": ["Missing data for required field."],
        "admin": ["Unknown field."],
    }


@pytest.mark.parametrize(
    ("accepted", "language", "detail"),
    [
        ({}, "es", "No hay nada en esta dirección."),
        ({"Accept-Language": "es-MX"}, "es", "No hay nada en esta dirección."),
        ({"Accept-Language": "en"}, "en", "There is nothing at this address."),
        ({"Accept-Language": "de"}, "es", "No hay nada en esta dirección."),
    ],
)
def test_a_problem_speaks_the_readers_language(
    client: FlaskClient, accepted: dict[str, str], language: str, detail: str
) -> None:
    answer = client.get("/nowhere", headers=accepted)
    assert problem_in(answer, 404, "not_found")["detail"] == detail
    assert answer.headers["Content-Language"] == language
    assert detail in answer.text, "letters are not escaped"


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("code", PROBLEMS)
def test_the_type_of_every_problem_resolves(
    client: FlaskClient, code: str, language: texts.Language
) -> None:
    answer = client.get(f"/problems/{code}", headers={"Accept-Language": language})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    title, _ = PROBLEMS[code].text(language)
    assert title in answer.text
    assert code in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/auth/login/",
        "/auth/../auth/nowhere",
        "/problems/nothing",
        "/problems/<script>",
        "/docs/assets/%00",
        "/docs/assets/..%2f..%2fsetup.cfg",
        "/docs/assets/" + "x" * 4_000,
        "/%ED%A0%80",
        "/console",
        "/.git/config",
        "/.env",
        "/token/validate?token=" + CANARY,
    ],
)
def test_what_is_not_there_is_a_problem(client: FlaskClient, path: str) -> None:
    """S33, S53, S60: no secret in a URL, no debugger, no files of ours."""
    answer = client.get(path)
    problem_in(answer)
    assert answer.status_code in {404, 405}
    assert CANARY not in answer.text


def test_the_debuggers_commands_do_nothing(client: FlaskClient) -> None:
    plain = client.get("/healthz")
    asked = client.get("/healthz?__debugger__=yes&cmd=resource&f=debugger.js")
    assert asked.data == plain.data


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE"])
def test_a_wrong_method_is_told_the_right_ones(app: Flask, method: str) -> None:
    """S40. Red where an error handler forgets the exception's own headers."""
    for path in body_routes(app):
        answer = app.test_client().open(path, method=method)
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]
        if method != "HEAD":
            problem_in(answer, 405, "method_not_allowed")


def test_options_needs_no_caller_and_says_what_is_allowed(app: Flask) -> None:
    for path in body_routes(app):
        answer = app.test_client().options(path)
        assert answer.status_code == 200
        assert "POST" in answer.headers["Allow"]


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def protected_routes(app: Flask) -> Iterator[tuple[str, str]]:
    """(method, path) of every route that needs a caller."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in PUBLIC:
            # The only argument that a guarded route takes is the id of a token.
            path = re.sub("<token_id:[^>]*>", "0" * ID, rule.rule)
            assert "<" not in path
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                yield method, path


@pytest.mark.parametrize(
    "credentials", [None, "", "Basic YTpi", "Digest x", "Token x", "x"], ids=repr
)
def test_without_a_token_every_guarded_route_asks_for_one(
    app: Flask, client: FlaskClient, credentials: str | None
) -> None:
    """S26, RFC 6750 section 3: no error is named where no token was sent."""
    headers = {} if credentials is None else {"Authorization": credentials}
    for method, path in protected_routes(app):
        answer = client.open(path, method=method, headers=headers)
        problem_in(answer, 401, "not_authenticated")
        assert answer.headers.getlist("WWW-Authenticate") == ["Bearer"]


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        "..",
        "." * 100,
        "\xe9\xff",
        "a b c",
        encoded(b"[" * 3_000) + ".e30.x",
        encoded(b'{"alg":"HS256"}') + "." + encoded(b"[" * 3_000) + ".x",
        encoded(b'{"alg":' + b"9" * 4_900 + b"}") + ".e30.x",
        encoded(b'{"alg":NaN}') + ".e30.x",
        encoded(b'{"alg":["HS256"]}') + ".e30.x",
        encoded(b'{"alg":"none"}') + ".e30.",
        encoded(b"null") + ".e30.x",
        encoded(b"\xff\xfe") + ".e30.x",
        encoded(b'{"alg":"HS256","kid":{}}') + ".e30.x",
        encoded(b'{"alg":"HS256","crit":["b64"],"b64":false}') + ".e30.x",
    ],
    ids=lambda token: repr(token[:20]),
)
def test_with_a_bad_token_every_guarded_route_says_so(
    app: Flask, client: FlaskClient, token: str
) -> None:
    for method, path in protected_routes(app):
        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
        problem_in(answer, 401, "access_token_invalid")
        assert answer.headers.getlist("WWW-Authenticate") == ['Bearer error="invalid_token"']


def test_the_word_bearer_alone_is_no_token(client: FlaskClient) -> None:
    answer = client.get("/auth/me", headers={"Authorization": "Bearer"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_failed_login_is_a_401_like_any_other(client: FlaskClient) -> None:
    account = {"correo": new_correo(), "password": PASSWORD}
    answer = client.post("/auth/login", json=account)
    problem_in(answer, 401, "invalid_credentials")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-ID": "a" * 129},
        {"X-Request-ID": "a\tb"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-00"},
        {"traceparent": "\xff"},
        {"Accept-Language": ";q=,,\xff=;;" * 100},
        {"Accept": "text/html"},
        {"Origin": "https://evil.example"},
        {"X-Forwarded-For": "unknown, 1.2.3.4:5"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"Cookie": "access_token_cookie=x; =;;\xff"},
        {"Host": "evil.example"},
        {"Idempotency-Key": "\xff" * 300},
        {"Content-Encoding": "gzip"},
        {"Range": "bytes=9-1"},
        {"If-Match": "x"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_odd_headers_change_nothing(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.post("/auth/register", json={}, headers=headers)
    problem_in(answer, 422, "validation_failed")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "evil" not in answer.text


def test_an_address_that_a_proxy_garbles_is_no_error(make_app: Callable[..., Flask]) -> None:
    behind_proxy = make_app(trusted_proxies=1, rate_limit_register="100 per minute").test_client()
    for garbled in ("unknown", "1.2.3.4:5678", "[::1]:80", "fe80::1%eth0", "\xff"):
        headers = {"X-Forwarded-For": garbled}
        problem_in(behind_proxy.post("/auth/register", json={}, headers=headers), 422)


def test_an_unforeseen_exception_says_nothing_of_itself(
    make_app: Callable[..., Flask], person: Person
) -> None:
    """S53, S54. Red without the handler of ``Exception``, the last resort."""
    service = make_app()

    @service.route("/explode")
    def explode() -> None:
        raise RuntimeError(CANARY)

    answer = service.test_client().get("/explode", headers=person.headers)
    problem_in(answer, 500, "internal_error")
    assert CANARY not in answer.text
    assert "RuntimeError" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/readyz",
        "/docs",
        "/openapi.json",
        "/problems/busy",
        "/nowhere",
        "/auth/me",
    ],
)
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    """S34, S50. Red without ``after_request(secure)``; a page brings a policy of its own."""
    answer = client.get(path)
    for name in SECURITY_HEADERS:
        assert answer.headers[name]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Request-ID"]


def test_the_server_tells_no_version(service: Service) -> None:
    """S50."""
    assert httpx.get(f"{service.url}/healthz").headers["Server"] == "gunicorn"


def test_no_answer_with_a_token_is_kept_by_a_cache(client: FlaskClient, person: Person) -> None:
    """S34."""

    def call(path: str, **body: Any) -> TestResponse:
        return client.post(path, json=body, headers=person.headers)

    login = call("/auth/login", correo=person.correo, password=PASSWORD)
    batch = call("/token/batch", count=2)
    created = call("/token/create")
    validated = call("/token/validate", token=created.json["token"])
    reserved = call("/token/reserve", token=batch.json["tokens"][0]["token"])
    committed = call("/token/commit", reservation=reserved.json["reservation"])
    for answer in (login, batch, created, validated, reserved, committed):
        assert answer.status_code < 300
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("status", "sent"),
    [(414, {"params": {"cursor": "a" * 5_000}}), (431, {"headers": {"X-Long": "a" * 10_000}})],
)
def test_what_is_too_long_for_the_real_server_is_told_so(
    status: int, sent: dict[str, Any], service: Service
) -> None:
    answer = httpx.get(f"{service.url}/token", **sent)
    assert (answer.status_code, answer.json()["code"]) == (status, "bad_request")


def test_json_is_not_ascii_escaped(client: FlaskClient) -> None:
    account = {"nombre": "Íñigo 🐘", "correo": new_correo(), "password": PASSWORD}
    answer = client.post("/auth/register", json=account)
    assert "Íñigo 🐘" in answer.data.decode()
    assert answer.headers["Content-Type"] == "application/json"


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes as they are; give everything that comes back until the connection closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "Host: localhost", "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/auth/register", JSON), ("/auth/login", JSON), ("/auth/login", FORM)],
)
def test_a_chunked_body_over_16_kib_is_refused_by_the_real_server(
    service: Service, path: str, content_type: str
) -> None:
    """S42. There is no Content-Length to look at: red without a limit on the stream."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"a" * 1024

    answer = httpx.post(
        f"{service.url}{path}", content=chunks(), headers={"Content-Type": content_type}
    )
    problem_in(answer, 413, "payload_too_large")


def test_a_chunked_body_is_not_taken_for_its_first_16_kib(
    service: Service,
) -> None:
    """The first 16 KiB would be a good body by themselves."""
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}

    def chunks() -> Iterator[bytes]:
        yield json.dumps(account).encode().ljust(MAX_BODY_BYTES)
        yield b"and more"

    answer = httpx.post(
        f"{service.url}/auth/register", content=chunks(), headers={"Content-Type": JSON}
    )
    problem_in(answer, 413, "payload_too_large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("GET /healthz HTTP/1.1", "X-Long: " + CANARY * 900),
        head("GET /" + CANARY * 900 + " HTTP/1.1"),
        head("GET /healthz HTTP/1.1", *(f"X-{number}: 1" for number in range(200))),
        (CANARY + "\r\n\r\n").encode(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n",
        head("GET /healthz HTTP/9.9"),
        head("GET /healthz HTTP/1.1", f"{CANARY} x: 1"),
        head("POST /auth/login HTTP/1.1", "Content-Length: -1"),
        head("POST /auth/login HTTP/1.1", "Content-Length: 1_0"),
        head("POST /auth/login HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
        head("POST /auth/login HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked"),
        head("POST /auth/login HTTP/1.1", "Transfer-Encoding: chunked, chunked"),
        head("POST /auth/login HTTP/1.1", f"Transfer-Encoding: {CANARY}"),
    ],
    ids=[
        "a 9 KB header",
        "a 9 KB address",
        "200 headers",
        "garbage",
        "TLS",
        "HTTP/9.9",
        "a space in a name",
        "a negative length",
        "an underscore in a length",
        "two lengths",
        "a length and chunks",
        "chunks twice",
        "an unknown coding",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(
    service: Service, request_bytes: bytes
) -> None:
    """S42, S44: gunicorn refuses these before any of our code, once, with a 4xx and no version.

    Guard: ``worker.Worker``. gunicorn's own refusals are HTML, repeat what was sent, and are a
    501 where it does not know a coding.
    """
    received = raw(service, request_bytes)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"gunicorn/" not in received
    assert CANARY.encode() not in received
    refusal = read(received)
    assert refusal.status_code < 500
    problem_in(refusal)
    assert refusal.headers["Connection"] == "close"
    assert httpx.get(f"{service.url}/healthz").status_code == 200


def read(received: bytes) -> httpx.Response:
    """Take the bytes of one answer apart."""
    top, _, body = received.partition(b"\r\n\r\n")
    line, *lines = top.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(line.split()[1]), headers=headers, content=body)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}XX0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}\r\n"),
        (["Content-Length: 30"], b"{}"),
        (["Content-Length: 30"], b""),
    ],
    ids=["no size", "no end", "a bad trailer", "cut chunks", "a cut body", "a lost body"],
)
def test_a_body_that_is_not_whole_is_not_acted_upon(
    service: Service, fields: list[str], body: bytes
) -> None:
    """S44, RFC 9112 section 8. Guard: ``refuse_cut_body``; else they are a 500, or a token."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        person = enrol(http.post)
    credentials = f"Authorization: {person.headers['Authorization']}"
    lines = ["POST /token/create HTTP/1.1", f"Content-Type: {JSON}", credentials, *fields]
    problem_in(read(raw(service, head(*lines) + body)), 400, "bad_request")
