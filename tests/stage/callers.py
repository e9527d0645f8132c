"""Callers of the token routes of one app."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.stage.people import Person
from tokenservice.auth import callers


@dataclasses.dataclass
class Caller:
    """A caller of one app, with an account."""

    client: FlaskClient
    person: Person

    @property
    def id(self) -> str:
        return self.person.id

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        named = {} if key is None else {"Idempotency-Key": key}
        return {**self.person.headers, **named, **more}

    def post(self, verb: str, key: str | None = None, **body: Any) -> TestResponse:
        """Call a verb; no cache may keep the response."""
        response = self.client.post(f"/token/{verb}", json=body, headers=self.headers(key))
        assert response.headers["Cache-Control"] == "no-store"
        return response

    def get(self, path: str = "", **query: Any) -> TestResponse:
        return self.client.get(f"/token{path}", query_string=query, headers=self.headers())

    def delete(self, token_id: str) -> TestResponse:
        return self.client.delete(f"/token/{token_id}", headers=self.headers())

    def create(self, **fields: Any) -> dict[str, Any]:
        """Create a token; return the body of the response."""
        response = self.post("create", **{"expires_in": 60, **fields})
        assert response.status_code == 201, response.text
        return body_of(response)

    def hold(self, token: str, **fields: Any) -> str:
        """Reserve a token; return the reservation."""
        response = self.post("reserve", token=token, **fields)
        assert response.status_code == 200, response.text
        return str(body_of(response)["reservation"])

    def receipt(self, token_id: str) -> dict[str, Any]:
        response = self.get(f"/{token_id}")
        assert response.status_code == 200
        return body_of(response)


@contextmanager
def always_fresh() -> Iterator[None]:
    """No caller has to be read again: shared machines stall, and freshness has tests of its own.

    There is no look at changes either, such as a new key.
    """
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("FRESH_SECONDS", "FRESH_DURING_A_LOOK_SECONDS"):
            patch.setattr(callers, bound, 60.0)
        patch.setattr(callers.Callers, "_look", lambda _: None)
        yield


def body_of(response: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.text)
    return found
