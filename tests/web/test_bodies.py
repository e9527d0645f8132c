"""Request bodies: each is read whole and strictly, or refused as a problem."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.people import PASSWORD, Person, new_correo
from tests.stage.problems import problem_in
from tests.stage.routes import body_routes
from tests.stage.tokens import INACTIVE
from tests.stage.wire import FORM, JSON
from tokenservice.web.bodies import MAX_BODY_BYTES

CANARY = "canary7f3a"
NOT_A_TOKEN = "ott_" + "0" * 56
NOT_A_REFRESH_TOKEN = "osr_" + "0" * 80
NOT_A_RESERVATION = "otr_" + "0" * 70
TERMS: dict[str, Any] = {
    "expires_in": 10,
    "purpose": "pay",
    "audience": ["errors@example.com"],
    "allow_unregistered": True,
    "subject": "order 7",
    "require_subject": True,
    "data": {"room": 7},
    "bind": "0f" * 32,
}
PRESENTED = {
    "token": NOT_A_TOKEN,
    "purpose": "pay",
    "subject": "order 7",
    "bind": "0f" * 32,
    "issued_by": ["errors@example.com"],
}
# A valid body of each route, with every field; the wrong values below replace these.
VALID: dict[str, dict[str, Any]] = {
    "/auth/register": {"nombre": "Ana", "correo": "errors@example.com", "password": PASSWORD},
    "/auth/login": {"correo": "errors@example.com", "password": PASSWORD},
    "/auth/refresh": {"refresh_token": NOT_A_REFRESH_TOKEN},
    "/auth/password": {"old": PASSWORD, "new": PASSWORD},
    "/auth/password/reset": {"token": NOT_A_TOKEN, "password": PASSWORD},
    "/auth/me/erase": {"password": "not " + PASSWORD},
    "/auth/keys": {
        "name": "billing",
        "scopes": ["token:create"],
        "purposes": ["ws.*"],
        "cidrs": ["192.0.2.0/24"],
        "expires_in": 60,
        "limits": {"create": "9 per minute"},
    },
    "/token/create": TERMS,
    "/token/batch": {**TERMS, "count": 1},
    "/token/consume": PRESENTED,
    "/token/validate": PRESENTED,
    "/token/reserve": {**PRESENTED, "lease_seconds": 30},
    "/token/commit": {"reservation": NOT_A_RESERVATION},
    "/token/release": {"reservation": NOT_A_RESERVATION},
    "/token/introspect": {"token": NOT_A_TOKEN, "issued_by": ["errors@example.com"]},
    "/token/revoke": {"token": NOT_A_TOKEN},
    "/token/revoke-all": {"purpose": "pay"},  # Not a subject as well.
}
REQUIRED = {
    "/auth/register": {"nombre", "correo", "password"},
    "/auth/login": {"correo", "password"},
    "/auth/refresh": {"refresh_token"},
    "/auth/password": {"old", "new"},
    "/auth/password/reset": {"token", "password"},
    "/auth/me/erase": {"password"},
    "/auth/keys": {"name", "scopes"},
    "/token/batch": {"count"},
    "/token/consume": {"token"},
    "/token/validate": {"token"},
    "/token/reserve": {"token"},
    "/token/commit": {"reservation"},
    "/token/release": {"reservation"},
    "/token/introspect": {"token"},
    "/token/revoke": {"token"},
}
# Malformed requests: (body, content type, the only status it may get or None for any 4xx).
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
    ("name", "a text"),
    ("password", "a text"),
    ("password", "control characters"),
    ("new", "a text"),
    ("new", "control characters"),
    ("purpose", "a text"),
    ("purposes", "a list"),
    ("subject", "a text"),
    ("data", "an object"),
    ("allow_unregistered", "true"),
    ("require_subject", "true"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_every_route_refuses_a_bad_body_as_a_problem(
    app: Flask, client: FlaskClient, person: Person, name: str
) -> None:
    """S42, S43. Red without ``strictjson``, ``MAX_CONTENT_LENGTH`` or the content type check."""
    data, content_type, status = BAD_BODIES[name]
    for path in body_routes(app):
        response = client.post(path, data=data, content_type=content_type, headers=person.headers)
        assert response.status_code < 500, path
        problem_in(response, status)
        assert CANARY not in response.text, path


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
        response = client.post(path, json=body, headers=person.headers)
        if response.status_code < 400:
            assert (field, name) in MAY_PASS or response.data == INACTIVE, name
            continue
        assert response.status_code < 500, name
        problem_in(response)
        assert CANARY not in response.text, name


@pytest.mark.parametrize("path", REQUIRED)
def test_no_body_at_all_is_an_empty_object(client: FlaskClient, person: Person, path: str) -> None:
    body = problem_in(client.post(path, headers=person.headers), 422, "validation_failed")
    assert set(body["errors"]) == REQUIRED[path]


def test_a_body_may_take_16_kib_and_not_a_byte_more(client: FlaskClient) -> None:
    for size, status in ((MAX_BODY_BYTES, 422), (MAX_BODY_BYTES + 1, 413)):
        data = b"{}".ljust(size)
        problem_in(client.post("/auth/register", data=data, content_type=JSON), status)


@pytest.mark.parametrize("content_type", [JSON, "APPLICATION/JSON; charset=utf-8"])
def test_json_is_accepted_in_any_spelling_of_its_media_type(
    client: FlaskClient, person: Person, content_type: str
) -> None:
    response = client.post(
        "/token/create", data=b"{}", content_type=content_type, headers=person.headers
    )
    assert response.status_code == 201
