"""JSON is read strictly, and written as plain UTF-8."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from tests.stage.people import PASSWORD, new_correo
from tokenservice.web import strictjson

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)


def reads(body: str | bytes) -> bool:
    """Whether ``loads`` reads it; any error but ValueError fails the test."""
    try:
        strictjson.loads(body)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} {"b": 2}',
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e999",
        b"[-1e999]",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": 1, "\\u0061": 2}',
        b'"\\u0000"',
        b'{"\\u0000": 1}',
        b'["a\\u0000b"]',
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'{"a": ["\\udc00\\ud800"]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b"9" * 5_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"\xed\xa0\x80",
        b'"\xc3"',
        b'"\n"',
        b"01",
        b"+1",
        b".5",
        b"0x10",
        b"undefined",
        '"\ud800"',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_json_that_is_not_strict_is_refused(body: bytes | str) -> None:
    """S43. ``loads`` has a guard for each; plain ``json.loads`` accepts many."""
    assert not reads(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b" [1, 2.5, -3e2] ", [1, 2.5, -300.0]),
        ('{"nombre": "Íñigo 🐘"}'.encode(), {"nombre": "Íñigo 🐘"}),
        (b'"\\ud83d\\udc18"', "🐘"),
        (b"null", None),
        (b'{"a": {"a": 1}, "b": {"a": 1}}', {"a": {"a": 1}, "b": {"a": 1}}),
    ],
)
def test_strict_json_is_read(body: bytes, value: Any) -> None:
    assert strictjson.loads(body) == value


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", "\ufeff{}", "\ufeff", "\ufeff\ufeff{}"])
def test_a_byte_order_mark_is_named(body: bytes | str) -> None:
    """Nobody sees it in an editor. Only the start of a text is one: elsewhere it is a letter."""
    with pytest.raises(ValueError, match="begins with a byte order mark"):
        strictjson.loads(body)
    assert strictjson.loads('{"a": "\ufeff"}') == {"a": "\ufeff"}


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "no byte order mark (BOM)"), ("es", "sin marca de orden de bytes")],
)
@pytest.mark.parametrize("path", ["/auth/register", "/auth/login"])
def test_a_body_with_a_byte_order_mark_is_refused_with_the_reason(
    client: FlaskClient, path: str, language: str, words: str
) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"correo": new_correo(), "password": PASSWORD}).encode()
    response = client.post(
        path,
        data=body,
        content_type="application/json",
        headers={"Accept-Language": language},
    )
    assert (response.status_code, response.json["code"]) == (400, "not_json")
    assert words in response.json["detail"]


@pytest.mark.parametrize("opened", [b"[", b'{"a":'])
def test_nesting_is_accepted_up_to_the_limit_and_no_further(opened: bytes) -> None:
    closed = b"]" if opened == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return opened * depth + b"1" + closed * depth

    strictjson.loads(nested(strictjson.MAX_DEPTH))
    with pytest.raises(ValueError, match="nested too deeply"):
        strictjson.loads(nested(strictjson.MAX_DEPTH + 1))


@given(st.binary() | st.text() | VALUES.map(json.dumps).map(str.encode))
def test_loads_raises_nothing_but_value_error(body: str | bytes) -> None:
    reads(body)


@given(VALUES)
def test_written_json_reads_back_equal(value: Any) -> None:
    written = strictjson.StrictJSON(Flask("test")).dumps(value)
    assert json.loads(written) == value
    written.encode()


def test_responses_are_utf8_and_keep_their_order() -> None:
    written = strictjson.StrictJSON(Flask("test")).dumps({"z": "ñ", "a": 1})
    assert written == '{"z": "ñ", "a": 1}'


def test_json_is_not_ascii_escaped(client: FlaskClient) -> None:
    account = {"nombre": "Íñigo 🐘", "correo": new_correo(), "password": PASSWORD}
    response = client.post("/auth/register", json=account)
    assert "Íñigo 🐘" in response.data.decode()
    assert response.headers["Content-Type"] == "application/json"
