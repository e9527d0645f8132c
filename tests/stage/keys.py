"""Service keys of people, and their calls."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from tests.stage.people import Person
from tests.stage.waiting import served
from tokenservice.auth.rights import SCOPES
from tokenservice.onetime.format import ALPHABET


def new_key(post: Callable[..., Any], person: Person, **fields: Any) -> dict[str, Any]:
    """A key of ``person`` with all scopes, or with these ``fields``; one more after a 503."""
    given = {"name": "a program", "scopes": list(SCOPES), **fields}
    response = served(lambda: post("/auth/keys", json=given, headers=person.headers))
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json() if callable(response.json) else response.json
    return body


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def basic(name: str, password: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


def altered(text: str) -> Iterator[str]:
    """Every text that differs by one character, or by one swap of neighbours."""
    for place, character in enumerate(text):
        before, after = text[:place], text[place + 1 :]
        yield before + after
        for other in ALPHABET:
            if other != character:
                yield before + other + after
            yield before + other + character + after
        if after and after[0] != character:
            yield before + after[0] + character + after[1:]
