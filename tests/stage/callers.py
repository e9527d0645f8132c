"""Callers of the token routes of one app."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.stage.people import Person


@dataclasses.dataclass
class Caller:
    """Someone with an account, calling one app."""

    client: FlaskClient
    person: Person

    @property
    def id(self) -> str:
        return self.person.id

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        named = {} if key is None else {"Idempotency-Key": key}
        return {**self.person.headers, **named, **more}

    def post(self, verb: str, key: str | None = None, **body: Any) -> TestResponse:
        """Call a verb; whatever is answered is kept by no cache."""
        answer = self.client.post(f"/token/{verb}", json=body, headers=self.headers(key))
        assert answer.headers["Cache-Control"] == "no-store"
        return answer

    def get(self, path: str = "", **query: Any) -> TestResponse:
        return self.client.get(f"/token{path}", query_string=query, headers=self.headers())

    def delete(self, token_id: str) -> TestResponse:
        return self.client.delete(f"/token/{token_id}", headers=self.headers())

    def create(self, **fields: Any) -> dict[str, Any]:
        """Create a token; give what was answered."""
        answer = self.post("create", **{"expires_in": 60, **fields})
        assert answer.status_code == 201, answer.text
        return body_of(answer)

    def hold(self, token: str, **fields: Any) -> str:
        """Reserve a token; give the reservation."""
        answer = self.post("reserve", token=token, **fields)
        assert answer.status_code == 200, answer.text
        return str(body_of(answer)["reservation"])

    def receipt(self, token_id: str) -> dict[str, Any]:
        answer = self.get(f"/{token_id}")
        assert answer.status_code == 200
        return body_of(answer)


def body_of(answer: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.text)
    return found
