"""Forged and altered access tokens: none of them opens any route."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import jwt.algorithms
import pytest
from flask import Flask
from flask.testing import FlaskClient

from config import Config
from tests.stage.forge import ATTACKS, Forge
from tests.stage.people import Person, enrol
from tests.stage.routes import protected_routes
from tests.torture import ledger

#: The characters of a bearer token (RFC 6750), without the dots between its parts.
BEARER = string.ascii_letters + string.digits + "-._~+/="


@pytest.fixture(scope="module")
def known(app: Flask) -> Person:
    return enrol(app.test_client().post)


@pytest.fixture
def genuine(known: Person) -> str:
    return known.headers["Authorization"].removeprefix("Bearer ")


def accepted(client: FlaskClient, method: str, path: str, token: str) -> bool:
    response = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
    return response.status_code != 401


def test_no_forged_token_opens_any_route(
    app: Flask, client: FlaskClient, genuine: str, config: Config
) -> None:
    """Each class of tests/stage/forge.py on each guarded route, after a call with the genuine one.

    Guard: ``jwts.claims_of``, and ``VerifiedTokens``, which remembers whole tokens.
    """
    assert accepted(client, "GET", "/auth/me", genuine)
    forge = Forge(genuine, config.secret_key)
    routes = list(protected_routes(app))
    passed = [
        f"{name}: {method} {path}"
        for name, attack in ATTACKS.items()
        for token in [attack(forge)]
        for method, path in routes
        if accepted(client, method, path, token)
    ]
    ledger.record(
        "A forged access token opens no route",
        n=len(ATTACKS) * len(routes),
        failures=len(passed),
        figures=f"{len(ATTACKS)} classes on {len(routes)} routes",
    )
    assert len(ATTACKS) >= 60
    assert not passed


def altered(token: str) -> Iterator[str]:
    """Every text that differs from ``token`` by one character, or one swap of neighbours."""
    for place, character in enumerate(token):
        before, after = token[:place], token[place + 1 :]
        yield before + after
        for other in BEARER:
            if other != character:
                yield before + other + after
            yield before + other + character + after
        if after and after[0] != character:
            yield before + after[0] + character + after[1:]


def test_no_altered_token_is_accepted(client: FlaskClient, genuine: str) -> None:
    """Every character changed, left out, inserted or swapped (ASVS 5.0 V9.1.1)."""
    every = list(dict.fromkeys(altered(genuine)))
    tried = random.sample(every, ledger.trials(len(every)))
    passed = sum(accepted(client, "GET", "/auth/me", token) for token in tried)
    ledger.record(
        "An access token with one character changed, left out, inserted or swapped is refused",
        n=len(tried),
        failures=passed,
    )
    assert not passed


def test_without_the_signature_an_altered_token_is_accepted(
    client: FlaskClient, genuine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the same texts where any signature is valid."""
    monkeypatch.setattr(jwt.algorithms.HMACAlgorithm, "verify", lambda *_: True)
    tried = random.sample(list(altered(genuine)), 400)
    assert any(accepted(client, "GET", "/auth/me", token) for token in tried)
