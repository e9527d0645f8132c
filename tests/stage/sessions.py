"""Logins, and the tokens of their sessions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jwt

from tests.stage.people import PASSWORD, Person
from tests.stage.waiting import served


def body_of(response: Any) -> dict[str, Any]:
    found = response.json() if callable(response.json) else response.json
    return dict(found or {})


@dataclasses.dataclass
class Login:
    """One session of a person, over ``post(path, json=…, headers=…)``."""

    post: Callable[..., Any]
    refresh_token: str
    access_token: str

    @classmethod
    def of(cls, post: Callable[..., Any], person: Person, password: str = PASSWORD) -> Self:
        account = {"correo": person.correo, "password": password}
        response = served(lambda: post("/auth/login", json=account))
        assert response.status_code == 200, response.text
        return cls(post, *tokens_of(response))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}

    @property
    def id(self) -> str:
        claims = jwt.decode(self.access_token, options={"verify_signature": False})
        return str(claims["sid"])

    def status(self) -> int:
        """That of a call with its JWT."""
        return int(self.post("/token/create", headers=self.headers).status_code)

    def present(self, refresh_token: str = "") -> Any:
        body = {"refresh_token": refresh_token or self.refresh_token}
        return served(lambda: self.post("/auth/refresh", json=body))

    def refresh(self) -> Self:
        """The session one step further."""
        response = self.present()
        assert response.status_code == 200, response.text
        return dataclasses.replace(
            self, **dict(zip(("refresh_token", "access_token"), tokens_of(response), strict=True))
        )

    def act(self, path: str, **body: Any) -> Any:
        options: dict[str, Any] = {"json": body} if body else {}
        return self.post(f"/auth/{path}", headers=self.headers, **options)


def tokens_of(response: Any) -> tuple[str, str]:
    found = body_of(response)
    return found["refresh_token"], found["access_token"]
