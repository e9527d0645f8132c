"""Access tokens: a forged, altered or misplaced one gets a plain 401."""

from __future__ import annotations

import contextlib
import socket
import string
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from config import Config
from tests.stage.forge import ATTACKS, Forge, decoded
from tests.stage.people import Person, enrol
from tests.stage.problems import assert_out
from tokenservice.auth.jwts import LEEWAY_SECONDS

URL_SAFE = string.ascii_letters + string.digits + "-_"


@pytest.fixture(scope="module")
def known(app: Flask) -> Person:
    return enrol(app.test_client().post)


@pytest.fixture(scope="module")
def forge(known: Person, config: Config) -> Forge:
    return Forge(known.headers["Authorization"].removeprefix("Bearer "), config.secret_key)


def test_the_forge_writes_valid_tokens(client: FlaskClient, forge: Forge) -> None:
    """Otherwise every refusal below could be a bug of the forge."""
    for token in (forge.genuine, forge.claiming(), forge.claiming(aud=["x", "token-service"])):
        response = client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 200


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_forged_token_is_refused(
    attack: Callable[[Forge], str], client: FlaskClient, forge: Forge
) -> None:
    """Guard: the decode in ``jwts.claims_of``."""
    response = client.post(
        "/token/create", headers={"Authorization": f"Bearer {attack(forge)}"}, json={}
    )
    assert_out(response)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_a_host_with_a_fast_clock_is_accepted(
    claim: str, client: FlaskClient, forge: Forge
) -> None:
    """Guard: LEEWAY_SECONDS. Clocks that differ by a millisecond are enough for a 401."""
    token = forge.claiming(**{claim: int(time.time()) + LEEWAY_SECONDS - 1})
    response = client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200


def test_a_key_named_in_the_header_is_never_looked_up(client: FlaskClient, forge: Forge) -> None:
    """With the right signature such headers change nothing: the key comes from the settings."""
    events: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "socket.getaddrinfo", "socket.connect", "urllib.Request"}:
            events.append(repr(arguments))

    sys.addaudithook(note)  # An audit hook cannot be removed.
    token = forge.under(
        kid="../../dev/null", jku="https://evil.example", x5u="https://evil.example"
    )
    response = client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 1))
    assert "127.0.0.1" in events[-1]
    assert not [entry for entry in events if "evil" in entry or "null" in entry]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer \t",
        "{0}",
        "Basic {0}",
        "Token {0}",
        "DPoP {0}",
        "Bearer: {0}",
        "Bearer={0}",
        "Bearer{0}",
        "bearer{0}",
        "Bearer {0} {0}",
        "Bearer Bearer {0}",
        "Bearer {0}, Bearer {0}",
        "Bearer {0},Bearer {0}",
        "Bearer x, Bearer {0}",
        "Basic eDp4, Bearer {0}",
        "Bearer {0}, Basic eDp4",
        "Bearer {0},",
        ",Bearer {0}",
        ",,,",
        "a,,b",
        "Bearer token={0}",
        'Bearer "{0}"',
        "\u00e9 {0}",
        "Bearer \u00e9\u00f1.\u00e9.\u00e9",
        "Bearer\u00a0{0}",
    ],
)
def test_a_malformed_authorization_header_is_refused(
    header: str, client: FlaskClient, forge: Forge
) -> None:
    """One scheme, one space, one token and nothing else, even if the token is genuine."""
    response = client.get("/auth/me", headers={"Authorization": header.format(forge.genuine)})
    assert_out(response, "not_authenticated", "access_token_invalid")


def test_two_authorization_headers_are_refused(client: FlaskClient, forge: Forge) -> None:
    line = ("Authorization", f"Bearer {forge.genuine}")
    assert_out(client.get("/auth/me", headers=[line, line]), "access_token_invalid")


@pytest.mark.parametrize(
    "place",
    [
        lambda t: {"query_string": {"access_token": t, "jwt": t, "token": t}},
        lambda t: {"json": {"access_token": t, "token": t}},
        lambda t: {"data": {"access_token": t}},
        lambda t: {"headers": {"Cookie": f"access_token={t}; access_token_cookie={t}"}},
        lambda t: {"headers": {"X-Authorization": f"Bearer {t}"}},
        lambda t: {"headers": {"Proxy-Authorization": f"Bearer {t}"}},
        lambda t: {"auth": ("Bearer", t)},
        lambda t: {},
    ],
    ids=["query", "json", "form", "cookie", "x-authorization", "proxy", "basic", "nowhere"],
)
def test_a_token_outside_the_authorization_header_is_not_read(
    place: Callable[[str], dict[str, Any]], client: FlaskClient, forge: Forge
) -> None:
    """A JWT counts in the Authorization header alone (RFC 6750 section 5.3, ASVS V14.2.1)."""
    assert_out(client.post("/token/create", **place(forge.genuine)), "not_authenticated")


def test_a_changed_character_anywhere_is_refused(client: FlaskClient, forge: Forge) -> None:
    """Every flip in the signed text or in the signature is refused (ASVS 5.0 V9.1.1)."""
    token = forge.genuine

    def status(changed: str) -> int:
        response = client.get("/auth/me", headers={"Authorization": f"Bearer {changed}"})
        return response.status_code

    assert status(token) == 200
    for place, character in enumerate(token):
        # 32 positions on in the alphabet, the highest of a character's six bits differs, which
        # is never a spare one. A dot becomes a letter.
        at = URL_SAFE.find(character)
        changed = token[:place] + URL_SAFE[(at + 32) % 64] + token[place + 1 :]
        assert status(changed) == 401, place
        assert status(token[:place] + token[place + 1 :]) == 401, place


def test_a_token_has_one_spelling_only(client: FlaskClient, forge: Forge) -> None:
    """43 characters of base64url hold 258 bits and a signature 256: two bits are spare.

    So four last characters decode to the same signature. PyJWT takes only the one whose spare
    bits are zero, and no flip of a last character passes, whether it changes the bytes or not.
    In the header and the payload the spelling itself is signed.
    """
    parts = forge.genuine.split(".")
    alike = 0
    for number, part in enumerate(parts):
        for last in URL_SAFE.replace(part[-1], ""):
            altered = part[:-1] + last
            token = ".".join([*parts[:number], altered, *parts[number + 1 :]])
            assert_out(client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}))
            alike += number == 2 and decoded(altered) == decoded(part)
    assert alike == 3
