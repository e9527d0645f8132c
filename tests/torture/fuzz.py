"""Fuzz targets for atheris: the parsers of untrusted input, each with its property of any bytes.

``python -m tests.torture.fuzz TARGET [libFuzzer's options] CORPUS``. A violated property, an
undeclared exception or a call longer than ``-timeout`` ends the run with a file that reproduces
it. A run needs a process of its own, because atheris ends its process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import atheris
from marshmallow import ValidationError

from config import Config

with atheris.instrument_imports(["tokenservice", "email_validator", "idna", "marshmallow"]):
    from tokenservice import create_app
    from tokenservice.auth import emails
    from tokenservice.auth.schemas import LoginRequest
    from tokenservice.onetime import format as tokens
    from tokenservice.onetime.errors import TokenMalformed
    from tokenservice.token import schemas
    from tokenservice.web import strictjson

# Without registration: the check of a password takes long, and depends on no shape.
SCHEMAS = [
    LoginRequest(),
    schemas.CreateTokenRequest(),
    schemas.CreateTokensRequest(),
    schemas.ValidateRequest(),
    schemas.ReserveRequest(),
    schemas.ReservationRequest(),
    schemas.ListRequest(),
]


def token(data: bytes) -> None:
    """A text is exactly a token or a reservation, or it is malformed."""
    text = data.decode("utf-8", "surrogateescape")
    # Half of them with a correct checksum: few altered tokens would pass it otherwise.
    candidates = [text, tokens.with_checksum(text)] if text.isascii() else [text]
    for candidate in candidates:
        for kind in (tokens.Token, tokens.Reservation):
            try:
                parsed = kind.parse(candidate)
            except TokenMalformed:
                continue
            assert str(parsed) == candidate
            assert parsed.secret not in repr(parsed)


def token_without_checksum(data: bytes) -> None:
    """The same property of a parser that checks the shape alone: it must not hold."""
    tokens.taken_apart = _fields_of_any_shape  # type: ignore[assignment]
    token(data)


def _fields_of_any_shape(text: str, pattern: object, *lengths: int) -> list[str]:
    if len(text) != len(tokens.TOKEN) + sum(lengths) + tokens.CHECKSUM:
        raise TokenMalformed
    found, start = [], len(tokens.TOKEN)
    for length in lengths:
        found.append(text[start : start + length])
        start += length
    return found


def body(data: bytes) -> None:
    """Bytes are strict JSON, which survives a round trip, or a ValueError.

    A schema loads a JSON value into texts that can be stored, or raises a ValidationError.
    """
    try:
        value = strictjson.loads(data)
    except ValueError:
        return
    written = json.dumps(value, ensure_ascii=False).encode()
    assert strictjson.loads(written) == value
    for schema in SCHEMAS:
        try:
            loaded = schema.load(value)
        except ValidationError as error:
            json.dumps(error.messages, ensure_ascii=False).encode()
            continue
        for text in loaded.values():
            if isinstance(text, str):
                assert b"\0" not in text.encode()


def address(data: bytes) -> None:
    """A text has a canonical spelling, which ``canonical`` keeps as it is, or is no address."""
    try:
        spelling = emails.canonical(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return
    assert emails.canonical(spelling) == spelling
    assert len(spelling) <= emails.MAX_LENGTH
    assert spelling.isprintable()
    # A real address may look like a mask.
    assert emails.masked(spelling) != spelling or "***@" in spelling
    spelling.encode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "token": token,
    "token_without_checksum": token_without_checksum,
    "body": body,
    "address": address,
}

SEEDS: dict[str, list[str]] = {
    "token": [
        str(tokens.Token("00" + "a" * 16, "0a1f", "s" * 28)),
        str(tokens.Reservation("00" + "a" * 16, "0a1f", "n" * 14, "s" * 28)),
    ],
    "body": [
        '{"correo": "ana@example.com", "password": "tres tristes tigres"}',
        '{"expires_in": 60, "purpose": "ws.connect", "audience": ["luis@example.com"], '
        '"allow_unregistered": true, "subject": "order 7", '
        '"data": {"room": [1.5e3, null, true]}, "bind": "' + "0f" * 32 + '"}',
        '{"count": 3}',
        '{"token": "ott_", "lease_seconds": 30, "subject": "\\ud83d\\udc18"}',
        '{"reservation": "otr_"}',
        '{"state": "active", "cursor": "17", "limit": 20}',
        '["\\ud800", "\\u0000", NaN, -Infinity, 1e999, [[[[]]]]]',
    ],
    "address": [
        "ana@example.com",
        " ANA.Luz+x@Exämple.COM ",
        '"a b"@example.com',
        "ñandú@ñandú.example",
        "a@xn--ls8h.example",
        "a@[127.0.0.1]",
        "\uff21@\uff25xample\u3002com",
    ],
}


def write_seeds(target: str, corpus: Path) -> None:
    """Write the seeds of a run into ``corpus``."""
    for number, seed in enumerate(SEEDS[target.partition("_")[0]]):
        (corpus / f"seed{number}").write_bytes(seed.encode())


def main(target: str, *options: str) -> None:
    write_seeds(target, Path(options[-1]))
    atheris.Setup([sys.argv[0], *options], TARGETS[target])
    with create_app(Config(secret_key="k" * 32)).app_context():  # without any connection
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
